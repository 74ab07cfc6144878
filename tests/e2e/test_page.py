"""The daemon's page in a real Chromium. One daemon and one browser serve all tests of this file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import REQUIRE_SERVERS
from tests.e2e.process import Syncd, bos_store, wait_until
from tests.support import browser as browsers
from tests.support.bos_faults import Fault
from tests.support.bos_server import BosServer
from tests.support.servers import free_port

MIB = 1 << 20
PHONE = {"width": 360, "height": 740}
TOKEN = "a-token-of-the-tests"
TRAP = '<img src=x onerror="document.title=666">\x07\u202e.txt'
"""A file whose name is HTML, rings a bell and turns the direction of the text."""

Open = Callable[..., Page]


expect.set_options(timeout=60_000)  # which a slow machine does not reach


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if reason := browsers.missing():
        (pytest.fail if os.environ.get(REQUIRE_SERVERS) else pytest.skip)(reason)
    with browsers.browser() as running:
        yield running


@pytest.fixture(scope="module")
def syncd(tmp_path_factory: pytest.TempPathFactory, bos_server: BosServer) -> Iterator[Syncd]:
    """Two sources, a limit that makes a film take a while, a file that fails and one that is a trap."""
    root = tmp_path_factory.mktemp("page")
    for name, content in (
        ("photos/clash", "x"),
        (f"photos/{TRAP}", "x"),
        ("papers/a", "x"),
        ("token", TOKEN),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    (root / "token").chmod(0o600)
    bos_server.disk.create("page")
    bos_server.faults.add(Fault("error", key="photos/clash", status=400, code="InvalidArgument", times=-1))
    common = {"store": "bos", "settle": "200ms"}
    instance = Syncd(
        root,
        {"bos": bos_store(bos_server, "page")},
        [
            {"name": "photos", "path": "./photos", "prefix": "photos/", **common},
            {"name": "papers", "path": "./papers", "prefix": "papers/", **common},
        ],
        transfer={"concurrency": 2, "bandwidth_limit": "2MiB", "max_attempts": 1},
        http={"address": f"127.0.0.1:{free_port()}", "token_file": "./token"},
    )
    try:
        instance.start()
        expected = [(1, 0, 0, 1), (1, 0, 0, 0)]
        wait_until("one failed, and all else is there", lambda: counts(instance) == expected)
        yield instance
    finally:
        instance.close()


def counts(syncd: Syncd) -> list[tuple[int, ...]]:
    """Of each source the files that are recorded, pending, in flight and failed."""
    names = ("recorded", "pending", "in_flight", "failed")
    return [tuple(source["files"][name] for name in names) for source in syncd.status()["sources"]]


@pytest.fixture
def open_page(chromium: Browser, syncd: Syncd) -> Iterator[Open]:
    """Opens the page in a new profile, with the token unless told not to; nothing may go wrong in it."""
    faults: list[str] = []
    asked: list[str] = []
    address = f"http://{syncd.content['http']['address']}/"
    contexts = []

    def opened(*, token: bool = True, **profile: Any) -> Page:
        context = chromium.new_context(**profile)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text))  # what the CSP refuses, for example
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        if token:
            unlock(page, syncd.root)
        return page

    yield opened
    for context in contexts:
        context.close()
    # What the daemon refuses, or does not answer, is in the console too.
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def unlock(page: Page, root: Path) -> None:
    page.get_by_label("Names, reasons and buttons need the token").fill((root / "token").read_text())
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("button", name="Lock")).to_be_visible()


def test_without_the_token_it_names_no_file(open_page: Open, syncd: Syncd) -> None:
    """But says how things are; a wrong token changes nothing, and the right one is forgotten when asked."""
    page = open_page(token=False)
    expect(page.locator("#says")).to_have_text("1 file could not be sent; everything else continues.")
    expect(page.get_by_role("heading", name="photos")).to_be_visible()
    for hidden in ("clash", "onerror", str(syncd.root)):
        assert hidden not in page.content()
    assert page.get_by_role("button").all_inner_texts() == ["Show"]
    page.get_by_role("textbox").fill("a-wrong-token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="That is not the token.")).to_be_visible()
    unlock(page, syncd.root)
    expect(page.get_by_role("region", name="Failed").get_by_text("clash")).to_be_visible()
    page.get_by_role("button", name="Lock").click()
    expect(page.get_by_role("button", name="Show")).to_be_visible()
    assert "clash" not in page.content()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_a_name_is_never_html(open_page: Open) -> None:
    """Nor does it ring, or turn the text around."""
    page = open_page()
    told = page.get_by_text('<img src=x onerror="document.title=666">\\x07\\u202e.txt').first
    expect(told).to_be_visible()
    assert page.locator("img").count() == 0
    assert page.title() == "failed · syncd"


@pytest.mark.parametrize("token", [False, True], ids=["counts", "names"])
def test_everybody_can_use_it(open_page: Open, token: bool) -> None:
    """axe-core finds nothing, in light and dark; all fits a phone, and each target a finger."""
    page = open_page(token=token)
    backgrounds = []
    for scheme, size in (("light", {"width": 1280, "height": 900}), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert browsers.findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    light, dark = (sum(map(int, re.findall(r"\d+", color))) for color in backgrounds)
    assert light > 600 > 150 > dark
    targets = [target.bounding_box() for target in page.locator("button, input, select, summary").all()]
    assert [box for box in targets if box is None or box["height"] < 44] == []


def test_it_is_used_by_keyboard(open_page: Open, syncd: Syncd) -> None:
    """Everything is reached in the order in which it is read, and seen there; a press of Enter is heard."""
    page = open_page()
    focusable = page.locator("button:visible, input:visible, select:visible, summary:visible").all()
    page.locator("h1").click()
    for expected in focusable:
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "([x]) => [document.activeElement === x, getComputedStyle(x).outlineWidth]",
            [expected.element_handle()],
        )
        assert seen == [True, "3px"], expected.inner_text()
    pause = page.get_by_role("button", name="Pause papers")
    pause.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Paused.")).to_be_visible()
    resume = page.get_by_role("button", name="Resume papers")
    expect(resume).to_be_focused()
    paused = {source["name"]: source["paused"] for source in syncd.status()["sources"]}
    assert paused == {"photos": None, "papers": "by the operator, until it is resumed"}
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause papers")).to_be_focused()
    assert [source["paused"] for source in syncd.status()["sources"]] == [None, None]


def test_an_upload_is_seen_while_it_goes_on(open_page: Open, syncd: Syncd) -> None:
    """The bar grows, and what one reads or has unfolded stays."""
    page = open_page()
    page.get_by_label("A file's full path").fill("half a wo")
    page.get_by_text("1 file", exact=True).click()
    (syncd.root / "papers" / "film").write_bytes(os.urandom(24 * MIB))
    bar = page.get_by_role("progressbar", name="film")
    expect(bar).to_be_visible()
    before = float(bar.get_attribute("value") or 0)
    handle = bar.element_handle()
    wait_until("it grows", lambda: float(handle.get_attribute("value") or 0) > before)
    expect(page.locator("#says")).to_contain_text("could not be sent")
    syncd.command("limit", "off")
    expect(bar).not_to_be_attached()
    expect(page.locator(".actions li").first).to_contain_text("uploaded")
    expect(page.locator("figure rect").last).to_be_visible()
    expect(page.get_by_label("A file's full path")).to_have_value("half a wo")
    assert page.locator("details[open]").count() == 0


def test_it_answers_for_a_file(open_page: Open, syncd: Syncd) -> None:
    """With its word and the reason."""
    page = open_page()
    page.get_by_label("A file's full path").fill(str(syncd.root / "photos" / "clash"))
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("failed photos: ")
    page.get_by_label("A file's full path").fill("/nowhere")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("No source has this path.")


def test_everything_is_steered_by_keyboard_or_finger(open_page: Open, syncd: Syncd) -> None:
    """A limit and a pause that last, what waits and why, what a flush did, and the configuration."""
    page = open_page()
    told = page.get_by_role("status")
    page.get_by_label("Limit for sending").fill("1MiB")
    page.keyboard.press("Enter")
    expect(told.filter(has_text="The limit is changed.")).to_be_visible()
    expect(page.get_by_text("Now it is 1.0 MiB/s.")).to_be_visible()
    page.get_by_label("Limit for sending").fill("fast")
    page.keyboard.press("Enter")
    expect(told.filter(has_text="found 'fast'; expected ")).to_be_visible()
    page.get_by_role("button", name="As configured limit for sending").click()
    expect(page.get_by_text("Now it is 2.0 MiB/s.")).to_be_visible()

    page.get_by_label("A pause of everything, and a limit, last").select_option("for an hour")
    page.get_by_role("button", name="Pause everything").click()
    expect(page.get_by_role("button", name="Resume everything")).to_be_visible()
    assert "by the operator, until 2" in syncd.status()["daemon"]["stores_paused"]["bos"]
    (syncd.root / "papers" / "held").write_text("held")
    page.get_by_text(": which, and why").click()
    expect(
        page.get_by_role("region", name="Waiting").get_by_text(
            "held: store bos is paused: by the operator, until 2"
        )
    ).to_be_visible()
    page.get_by_role("button", name="Resume everything").click()
    expect(page.get_by_role("region", name="Waiting")).not_to_be_attached()

    page.get_by_role("button", name="Send now papers").click()
    expect(told.filter(has_text="All that was known is in the store.")).to_be_visible()
    page.get_by_role("button", name="Send now everything").click()
    expect(told.filter(has_text="1 failed")).to_be_visible()
    page.get_by_role("button", name="Read the configuration again").click()
    expect(told.filter(has_text="Nothing has changed.")).to_be_visible()


def test_without_a_script_it_says_how_things_are(open_page: Open) -> None:
    """And offers nothing that would not work."""
    page = open_page(token=False, java_script_enabled=False)
    expect(page.locator("#says")).to_have_text("1 file could not be sent; everything else continues.")
    expect(page.get_by_text("the page needs its script")).to_be_visible()
    assert page.locator("button:visible, input:visible").count() == 0
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("heading", name="photos")).to_be_visible()


def test_a_daemon_that_is_away_is_told_until_it_is_back(open_page: Open) -> None:
    """Old news must not look new."""
    page = open_page(token=False)
    page.context.set_offline(True)
    told = page.get_by_role("status").filter(has_text="No news from the daemon since")
    expect(told).to_be_visible()
    expect(page.locator("main[data-old]")).to_be_visible()
    page.context.set_offline(False)
    expect(told).not_to_be_attached()
    expect(page.locator("main[data-old]")).not_to_be_attached()


def test_a_group_of_failures_is_tried_again(open_page: Open, bos_server: BosServer) -> None:
    """Once its cause is mended. This is the last test: then nothing has failed any more."""
    page = open_page()
    bos_server.faults.clear()
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status").filter(has_text="1 file is tried again.")).to_be_visible()
    expect(page.locator("#says")).to_contain_text("Everything is in the store")
    expect(page.get_by_role("heading", name="Failed")).not_to_be_attached()
    expect(page.locator("#heard")).to_contain_text("Everything is in the store")
    assert page.evaluate("document.activeElement.tagName") == "MAIN"

"""The page says how things are, and, without the token, names no file."""

from __future__ import annotations

import collections.abc
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields, replace

from syncd.daemon.http import page
from syncd.daemon.status import FailureReport, InFlight, Status
from tests.unit.daemon.http.test_markup import Reader
from tests.unit.daemon.http.test_sayings import DAEMON, LIVE, TOTALS, source, status


def failure(path: str, error: str, source: str = "camera") -> FailureReport:
    return FailureReport(source, path, error, 2, "2026-11-29T10:00:00Z")


def shown(status: Status, *, names: bool = True, actions: Any = (), has_token: bool = True) -> str:
    return page.render(status, actions, names=names, has_token=has_token)


def test_what_else_there_is_follows_the_sentence() -> None:
    """The sentence does not read as if the first trouble were the only one."""
    text = Reader(shown(status(source(failed=2), source("usb", live=replace(LIVE, waiting_for="gone"))))).text
    assert "The source usb waits: gone.2 files could not be sent" in text
    assert "Everything is in the store" not in text


MOMENT = "2026-11-29T09:31:07Z"
OPEN_TO_ALL = {"name", "store", "source", "last_scan", "next_attempt", "paused"}
"""What says nothing that has to be hidden: names from the configuration, moments, and by whom a pause is."""


def filled(kind: Any, name: str = "") -> Any:
    """A value of the type with everything in it that there can be, and a mark in each text."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = get_type_hints(kind)
        return kind(**{each.name: filled(hints[each.name], each.name) for each in fields(kind)})
    if name == "totals":
        return TOTALS
    if kind is str:
        return (
            MOMENT
            if name.startswith(("last_", "next_", "oldest_"))
            else "open"
            if name in OPEN_TO_ALL
            else "SECRET"
        )
    base, inner = get_origin(kind), get_args(kind)
    if base is collections.abc.Sequence:
        return [filled(inner[0], name)]
    if base is collections.abc.Mapping:
        return {key: filled(inner[1], name) for key in ("open",)}
    if inner:  # this or None
        return filled(inner[0], name)
    return kind(3)


EVERYTHING = filled(Status)
ACTION = {
    "at": "2026-11-29T09:00:00Z",
    "source": "camera",
    "path": "SECRET",
    "action": "copied",
    "bytes": 1,
    "detail": "SECRET",
}


def test_without_the_token_no_file_and_no_reason_is_named() -> None:
    """Counts and words; nothing to steer, and no file to ask for."""
    assert shown(EVERYTHING, actions=[ACTION]).count("SECRET") > 15
    bare = shown(EVERYTHING, actions=[ACTION], names=False)
    assert "SECRET" not in bare
    assert "data-verb" not in bare
    assert 'id="ask"' not in bare
    assert "3 files could not be sent" in bare
    assert "a file of open" in bare
    assert 'id="unlock"' in bare
    assert 'id="unlock"' not in shown(EVERYTHING, names=False, has_token=False)
    assert "http.token_file" in shown(EVERYTHING, names=False, has_token=False)


def test_a_locked_page_tells_nothing() -> None:
    """But how to open it."""
    locked = page.render_locked()
    assert 'id="unlock"' in locked
    assert not {"article", "dl", "svg"} - {"svg"} & set(Reader(locked).tags)


def test_failures_are_told_by_reason() -> None:
    """What differs from file to file is no reason; a group has one button, and the store's hint."""
    denied = "denied (403) [request {}]; look at the policy"
    given = status(
        source(failed=70),
        failures=[failure("long", "too long"), *(failure(f"f{at}", denied.format(at)) for at in range(60))],
    )
    html = shown(given)
    assert html.index("<h3>denied (403)</h3>") < html.index("<h3>too long</h3>")
    assert html.count('data-verb="retry"') == 2
    assert 'data-request="{&quot;error&quot;: &quot;denied (403)&quot;}"' in html
    text = Reader(html).text
    assert "look at the policy60 files" in text
    assert "and 10 more" in text
    assert "The first 61 of 70." in text


def test_the_last_hour_is_told_in_words_too() -> None:
    """The picture is for those who see it."""
    text = Reader(shown(status(source()))).text
    assert "20.0 MiB in the last hour, at most 5.0 MiB in one minute; the last of it 6 minutes ago." in text
    quiet = shown(status(source(), daemon=replace(DAEMON, bytes_by_minute=[0] * 60)))
    assert "Nothing was sent in the last hour." in quiet
    assert "<rect" not in quiet


def test_the_buttons_of_a_source_fit_how_it_is() -> None:
    """One that is paused can go on."""
    html = shown(status(source(), source("b", paused="by the operator, until 2026-11-29T11:00:00Z")))
    assert 'data-verb="pause" data-request="{&quot;name&quot;: &quot;source:camera&quot;}"' in html
    assert 'data-verb="resume" data-request="{&quot;name&quot;: &quot;source:b&quot;}"' in html
    assert '<time datetime="2026-11-29T11:00:00Z">2026-11-29 11:00 UTC</time>' in html


def test_names_are_no_html() -> None:
    """Not even names that were chosen for that."""
    name = '"><img src=x onerror=alert(1)>'
    given = status(
        source(failed=1, path=name),
        in_flight=[InFlight("camera", name, 1, 2)],
        failures=[failure(name, name)],
    )
    read = Reader(shown(given, actions=[{**ACTION, "path": name, "detail": name}]))
    assert "img" not in read.tags
    assert read.text.count(name) >= 5

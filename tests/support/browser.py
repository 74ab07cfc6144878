"""A real Chromium for the tests of the page, and axe-core, which finds what some people could not use.

The browser is the machine's own, so that the tests download nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.servers import find_program

_PROGRAM = "chromium"
COMES_FROM = "apt-get install chromium"
_FLAGS = (
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_AXE = """axe.run().then(found => found.violations.concat(found.incomplete).map(
    each => `${each.id}: ${each.help}: ${each.nodes.map(node => node.html).join("; ")}`))"""


def missing() -> str | None:
    """Why there is no browser on this machine, or None."""
    return None if find_program(_PROGRAM) else f"no {_PROGRAM}: {COMES_FROM}"


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with an empty profile."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=find_program(_PROGRAM), args=list(_FLAGS))
        yield running
        running.close()


def findings(page: Page) -> list[str]:
    """What axe-core has to say about the page as it is now, also where it leaves the judgement to people."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_AXE)
    return found


def widths(page: Page) -> tuple[Any, Any]:
    """How wide the content is and how wide the window, in CSS pixels."""
    return page.evaluate("document.documentElement.scrollWidth"), page.evaluate("innerWidth")

"""`syncd rescan`."""

from __future__ import annotations

import os

from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_what_is_meant_is_a_name_or_a_path(home: Home) -> None:
    """A path has a slash, and reaches the daemon whole."""
    with answering(home, {"sources": ["docs", "more"], "below": ""}) as heard:
        assert home.run("rescan").stdout == "the daemon scans docs, more\n"
        home.run("rescan", "docs")
        home.run("rescan", "./d")
    assert [request.get("name") for request in heard] == [None, "docs", None]
    assert heard[2]["path"] == os.path.abspath("d")

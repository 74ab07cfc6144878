"""`syncd retry`."""

from __future__ import annotations

from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_the_number_of_files_is_told(home: Home) -> None:
    """So that the user sees that something happened."""
    with answering(home, {"sources": ["docs"], "files": 3}) as heard:
        told = home.run("retry", "docs", "--error", "403").stdout
    assert told == "failed files that are tried again: 3\n"
    assert heard[0] | {"command": "retry", "name": "docs", "error": "403"} == heard[0]

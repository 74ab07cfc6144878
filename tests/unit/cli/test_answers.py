"""What the daemon's answers stand for."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.cli import answers


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"state": "stored"}, 0),
        ({"state": "excluded"}, 0),
        ({"state": "pending"}, 4),
        ({"state": "failed"}, 3),
        ({"daemon": {"running": False}, "sources": []}, 69),
        ({"daemon": {"running": True}, "sources": [{"files": [0, 0, 0], "last_scan": "x"}]}, 0),
        ({"daemon": {"running": True}, "sources": [{"files": [1, 0, 0], "last_scan": "x"}]}, 4),
        ({"daemon": {"running": True}, "sources": [{"files": [0, 1, 0], "last_scan": "x"}]}, 4),
        ({"daemon": {"running": True}, "sources": [{"files": [0, 0, 0], "last_scan": None}]}, 4),
        ({"daemon": {"running": True}, "sources": [{"files": [1, 1, 1], "last_scan": "x"}]}, 3),
        *(
            (
                {
                    "daemon": {"running": True},
                    "sources": [{"files": [0, 0, 0], "last_scan": "x", key: value}],
                },
                code,
            )
            for key, value, code in (
                ("waiting_for", "the directory is missing", 4),
                ("deletes_parked", 6, 4),
                ("waits_for_take_over", "another machine", 4),
                ("unreadable", ["a: Permission denied"], 3),
                ("differing", 1, 3),
            )
        ),
    ],
)
def test_the_exit_code_says_whether_it_is_in_sync(found: dict[str, Any], code: int) -> None:
    """For scripts that wait; failures weigh more than what waits."""
    for source in found.get("sources", ()):
        source["files"] = dict(zip(("pending", "in_flight", "failed"), source["files"], strict=True))
    assert answers.status_code(found) == code

"""`syncd verify`: lines, JSON, counts and the exit code. What it finds is tested with the audit."""

from __future__ import annotations

import json

from syncd.cli.verify import compare
from tests.unit.cli.home import Home


def test_verify_is_three_when_the_store_is_not_as_recorded(home: Home) -> None:
    """Notes alone are no failure."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    assert home.run("verify").stdout == "1 files compared, 0 serious differences, 0 notes\n"
    (home.mirror / "stray").write_text("y")
    done = home.run("verify", "--read")
    assert (done.exit_code, "note docs:stray" in done.stdout) == (0, True)
    (home.mirror / "a").unlink()
    done = home.run("verify")
    assert (done.exit_code, "FAIL docs:a: the object is missing" in done.stdout) == (3, True)
    found = json.loads(home.run("verify", "--json").stdout)
    assert (found["files"], found["serious"], len(found["differences"])) == (1, 1, 2)


def test_every_difference_is_counted_by_its_kind(home: Home) -> None:
    """Files are counted once, however many differences they have."""
    for name in ("a", "b", "c"):
        (home.watched / name).write_text(name)
    assert home.run("sync").exit_code == 0
    (home.mirror / "a").unlink()
    (home.mirror / "stray").write_text("x")
    (home.watched / "b").write_text("changed")
    counts = {"files": 0, "serious": 0, "notes": 0}
    found = sorted((each.ref.path, each.serious) for each in compare(home.settings, counts, read=False))
    assert found == [("a", True), ("b", False), ("stray", False)]
    assert counts == {"files": 3, "serious": 1, "notes": 2}

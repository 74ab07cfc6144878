"""`syncd restamp`, on a directory, whose objects have no properties: nothing changes, and that is said."""

from __future__ import annotations

import json
import os

from tests.unit.cli.home import Home


def test_it_looks_at_every_object_with_a_daemon_and_without(home: Home) -> None:
    """The answers are the same; a source that is unknown is a mistake of usage."""
    (home.watched / "a").write_text("x")
    (home.watched / "b").write_text("y")
    assert home.run("sync").exit_code == 0
    shown = home.run("restamp")
    assert (shown.exit_code, shown.stdout) == (0, "docs: 2 objects looked at, 0 got other properties\n")
    alone = json.loads(home.run("restamp", "docs", "--dry-run", "--json").stdout)
    assert alone["sources"]["docs"]["objects"] == 2
    assert home.run("restamp", "other").exit_code == 2


def test_as_many_people_may_read_an_object_as_before(home: Home) -> None:
    """A directory gives its copy of a file the permissions of the file, also where another copy is made."""
    for name, mode in (("a", 0o644), ("b", 0o600)):
        (home.watched / name).write_text("x")
        (home.watched / name).chmod(mode)
    assert home.run("sync").exit_code == 0
    before = [os.stat(home.mirror / name).st_mode for name in ("a", "b")]
    home.content["sources"][0]["attributes"] = "posix"
    assert ", 2 got other properties" in home.run("restamp").stdout
    assert [os.stat(home.mirror / name).st_mode for name in ("a", "b")] == before

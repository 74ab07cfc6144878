"""`syncd verify`: lines, JSON, counts and the exit code. What it finds is tested with the audit."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import closing

import pytest
from msgspec.structs import replace

from syncd.cli.verify import compare
from syncd.core.model import FileRef
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.transfer import audit
from tests.unit.cli.home import Home


def test_verify_is_three_when_the_store_is_not_as_recorded(home: Home) -> None:
    """Notes alone are no failure."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    assert home.run("verify").stdout == "1 file compared, 0 serious differences, 0 notes\n"
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
    found = sorted((each.ref.path, each.serious) for each in compare(home.settings, counts, {}, read=False))
    assert found == [("a", True), ("b", False), ("stray", False)]
    assert counts == {"files": 3, "serious": 1, "notes": 2}


def test_a_store_that_cannot_be_used_holds_up_no_other(home: Home) -> None:
    """The sources of the others are compared. Its own are named, and keep what was found before."""
    for name in ("first", "second"):
        source = {"name": name, "path": name, "store": "away", "prefix": f"{name}/", "settle": "100ms"}
        home.content["sources"].insert(0, source)
        (home.root / name).mkdir()
        (home.root / name / "file").write_text(name)
    home.content["stores"]["away"] = {"type": "dir", "path": "./away"}
    (home.root / "away").mkdir()
    (home.watched / "a").write_text("x")
    assert home.run("sync").exit_code == 0
    (home.root / "away/first/file").unlink()
    assert home.run("verify").exit_code == 3
    shutil.rmtree(home.root / "away")
    (home.mirror / "a").unlink()
    done = home.run("verify")
    assert (done.exit_code, "FAIL docs:a" in done.stdout) == (69, True)
    told = [line.split(": ")[1] for line in done.stderr.splitlines() if "not all" in line]
    assert told == [
        "second",
        "first",
    ]
    assert json.loads(home.run("verify", "--json").stdout)["errors"].keys() == {"first", "second"}
    assert home.run("status").stdout.count("the object is missing") == 2


@pytest.mark.parametrize("how", [[], ["--read"], ["--deep"], ["--read", "--deep"]])
def test_repair_has_damaged_objects_sent_again(home: Home, how: list[str]) -> None:
    """Missing, cut off and replaced ones, by the next pass; what another program wrote stays, however it was
    looked at, unless it is to be overwritten. Without --repair nothing changes.
    """
    for name in ("missing", "cut", "other", "good"):
        (home.watched / name).write_text(f"content of {name}")
    home.run("sync")
    (home.mirror / "missing").unlink()
    os.truncate(home.mirror / "cut", 3)
    (home.mirror / "other").write_text("content of OTHER")  # of the same size
    said = home.run("verify", *how)
    assert (said.exit_code, "4 files compared, 3 serious differences" in said.stdout) == (3, True)
    replaces = "syncd verify --repair --overwrite replaces what another program wrote: 1 object"
    assert replaces in said.stderr
    assert "1 uploaded" not in home.run("sync").stdout
    assert (
        "`syncd verify --repair --overwrite` replaces it"
        in home.run("explain", str(home.watched / "other")).stdout
    )

    said = home.run("verify", "--repair", *how)

    assert said.exit_code == 3
    assert "2 files are sent again by the next sync" in said.stderr
    home.run("sync")
    assert (home.mirror / "other").read_text() == "content of OTHER"
    assert (home.mirror / "missing").read_text() == "content of missing"
    assert (home.mirror / "cut").read_text() == "content of cut"
    home.run("verify", "--repair", "--overwrite")
    home.run("sync")
    assert (home.mirror / "other").read_text() == "content of other"
    assert home.run("verify").exit_code == 0
    assert "there is nothing to repair" in home.run("verify", "--repair").stderr


def test_what_is_found_stands_until_it_is_mended(home: Home) -> None:
    """`status` and `sync` name it, and neither says that all is well."""
    for name in ("missing", "rewritten", "good"):
        (home.watched / name).write_text(f"content of {name}")
    home.run("sync")
    (home.mirror / "missing").unlink()
    (home.mirror / "rewritten").write_text("content of rewritteN")
    said = "docs: 2 objects differ from the records (missing: the object is missing); syncd"
    assert home.run("verify").exit_code == 3
    assert said in home.run("status").stdout
    (shown,) = json.loads(home.run("status", "--json").stdout)["sources"]
    assert (shown["differing"], len(shown["differences"])) == (2, 2)
    of_file = home.run("status", str(home.watched / "missing"), "--exit-code")
    assert (of_file.exit_code, of_file.stdout.split()[0]) == (3, "failed")
    done = home.run("sync")
    assert (done.exit_code, said in done.stderr) == (3, True)

    (home.watched / "rewritten").write_text("changed, and so sent again")
    done = home.run("sync")
    assert (done.exit_code, "docs: 1 object differs from the records (missing:" in done.stderr) == (3, True)
    home.run("verify", "--repair")
    done = home.run("sync")
    assert (done.exit_code, "from the records" in done.stderr + home.run("status").stdout) == (0, False)


def test_content_that_a_disk_lost_is_found_by_a_download(home: Home) -> None:
    """Size and times of the object's file are as they were. A wrong share is refused."""
    (home.watched / "a").write_text("the good content")
    home.run("sync")
    stat = (home.mirror / "a").stat()
    (home.mirror / "a").write_text("the bad  content")
    os.utime(home.mirror / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [home.run("verify", *some).exit_code for some in ((), ("--read",), ("--deep", "0%"))] == [0, 0, 0]
    done = home.run("verify", "--deep")
    assert (done.exit_code, "FAIL docs:a: the object's content is not what was sent" in done.stdout) == (
        3,
        True,
    )
    assert home.run("verify").exit_code == 3
    done = home.run("verify", "--deep", "7")
    assert (done.exit_code, "expected a share" in done.stderr) == (2, True)


def test_content_that_was_lost_behind_its_metadata_is_mended(home: Home) -> None:
    """What only a download finds is sent again, by the pass after the repair; then it is named no longer."""
    for name in ("a", "b"):
        (home.watched / name).write_text(f"the good content of {name}")
    home.run("sync")
    stat = (home.mirror / "a").stat()
    (home.mirror / "a").write_text("the evil content of a")
    os.utime(home.mirror / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert home.run("verify", "--deep", "--repair").exit_code == 3
    assert home.run("verify").exit_code == 3  # nothing was sent yet
    done = home.run("sync")
    assert (done.exit_code, (home.mirror / "a").read_text()) == (0, "the good content of a")
    assert "1 uploaded" in done.stdout
    assert home.run("verify", "--deep").exit_code == 0


def test_what_is_right_again_is_named_no_longer(home: Home) -> None:
    """After the next comparison, also without a repair."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    (home.mirror / "a").rename(home.mirror.parent / "away")
    home.run("verify")
    assert home.run("sync").exit_code == 3
    (home.mirror.parent / "away").rename(home.mirror / "a")
    assert home.run("verify").exit_code == 0
    assert home.run("sync").exit_code == 0


def test_a_state_that_cannot_be_written_takes_nothing_from_verify(home: Home) -> None:
    """Another pass holds it, for example: what was found is told nevertheless."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    (home.mirror / "a").unlink()
    lock = StateLock.acquire(home.settings.state_dir)
    try:
        done = home.run("verify")
    finally:
        lock.release()
    assert (done.exit_code, "FAIL docs:a" in done.stdout) == (3, True)
    assert "docs: `syncd status` will not name these differences" in done.stderr


def test_repair_forgets_deleted_files_whose_objects_are_gone(home: Home) -> None:
    """A rule of the bucket may have removed them: there is nothing to send, and no verify fails for it."""
    for name in ("deleted", "expired", "stays"):
        (home.watched / name).write_text(name)
    home.run("sync")
    for name in ("deleted", "expired"):
        (home.watched / name).unlink()
    home.run("sync")
    (home.mirror / "expired").unlink()
    (home.mirror / "stays").unlink()

    said = home.run("verify", "--repair")

    assert "1 file is sent again by the next sync" in said.stderr
    assert "; 1 deleted file is forgotten" in said.stderr
    home.run("sync")
    done = home.run("verify")
    assert (done.exit_code, "note docs:deleted: the file is gone" in done.stdout) == (
        0,
        True,
    )
    assert "2 files compared" in done.stdout


@pytest.mark.parametrize(("bound", "repaired"), [((), False), (("--max-repair", "100%"), True)])
def test_repair_stops_where_too_much_is_damaged(home: Home, bound: tuple[str, ...], repaired: bool) -> None:
    """Then the store itself is probably not the right one: the operator has to look."""
    for number in range(12):
        (home.watched / str(number)).write_text(str(number))
    home.run("sync")
    for path in home.mirror.glob("[0-9]*"):
        path.unlink()
    said = home.run("verify", "--repair", *bound)
    assert ("nothing is repaired: 12 of 12" in said.stderr) == (not repaired)
    home.run("sync")
    assert bool(list(home.mirror.glob("[0-9]*"))) == repaired


def test_repair_sends_no_file_whose_own_content_is_wrong(home: Home) -> None:
    """A disk that rots changes no stat: the object may be the last good copy, and is kept."""
    path = home.watched / "rotten"
    path.write_text("the good content")
    home.run("sync")
    stat = path.stat()
    path.write_text("the bad  content")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with closing(State.open(home.settings.state_dir, now_ns=time.time_ns)) as state:
        ref = FileRef("docs", "rotten")
        row = state.recorded(ref)
        assert row is not None
        now = path.stat()  # only the change time tells, which a rotting disk does not touch either
        state.commit(ref, replace(row, stat=row.stat._replace(ctime_ns=now.st_ctime_ns), racy=False))
    said = home.run("verify", "--read", "--repair")
    assert "the file's content changed, but not its stat" in said.stdout
    assert "there is nothing to repair" in said.stderr
    home.run("sync")
    assert (home.mirror / "rotten").read_text() == "the good content"


def test_what_one_run_does_not_repair_is_counted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object without its content has to be remembered until it is replaced: so many at once, no more."""
    monkeypatch.setattr(audit, "MOST_NAMED", 2)
    names = ("a", "b", "c")
    for name in names:
        (home.watched / name).write_text("good")
    home.run("sync")
    for name in names:
        stat = (home.mirror / name).stat()
        (home.mirror / name).write_text("rots")
        os.utime(home.mirror / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    said = []
    while not said or "lost content" in said[-1]:
        said.append(home.run("verify", "--deep", "--repair").stderr)
        home.run("sync")
    assert "2 files are sent again" in said[0]
    assert "1 more object has lost content" in said[0]
    assert len(said) == 2
    assert [(home.mirror / name).read_text() for name in names] == ["good"] * 3

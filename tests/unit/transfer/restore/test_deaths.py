"""A restore dies before each of its system calls: what is there is whole, and the next one completes it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from syncd.core.restoring import DRAFT, Overwrite
from tests.contract.mortal import DEAD
from tests.unit.transfer.restore.mortal import FOLDER_MODE, FOLDERS, LINKS, OBJECTS, OLD, filled
from tests.unit.transfer.restore.restoring import MTIME_NS, restore, tree

PROJECT = Path(__file__).resolve().parents[4]


def test_a_restore_may_die_before_every_system_call() -> None:
    """No half file, no old file lost, nothing left over at the end; and no content is fetched for a file that
    was whole."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as place,
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.transfer.restore.mortal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            text=True,
        ) as mortal,
    ):
        assert mortal.stdin is not None
        assert mortal.stdout is not None
        at, died = 0, True
        while died:
            at += 1
            to = Path(place) / str(at)
            to.mkdir()
            (to / "replaced").write_bytes(OLD)
            (to / "leads elsewhere").symlink_to(os.fsdecode(OLD))
            mortal.stdin.write(f"{at} {to}\n")
            mortal.stdin.flush()
            status = int(mortal.stdout.readline())
            assert status in (0, DEAD)
            died = status == DEAD
            _judge(to, died=died)
        assert at > 40
        mortal.stdin.close()


def _judge(to: Path, *, died: bool) -> None:
    links = {os.fsencode((to / "leads elsewhere").readlink())}
    assert links <= ({OLD, LINKS["leads elsewhere"]} if died else {LINKS["leads elsewhere"]})
    left = files_of(to, drafts=False)
    assert left.pop("replaced") in ((OLD, OBJECTS["replaced"]) if died else (OBJECTS["replaced"],))
    assert left == {name: OBJECTS[name] for name in left}
    store = filled()
    report = restore(store, to, overwrite=Overwrite.ALWAYS)
    assert report.failures == []
    assert report.counts["already_there"] >= len(left)
    assert files_of(to) == OBJECTS
    assert {name: os.fsencode((to / name).readlink()) for name in LINKS} == LINKS
    for name in FOLDERS:
        folder = (to / name).stat()
        assert (stat.S_IMODE(folder.st_mode), folder.st_mtime_ns) == (FOLDER_MODE, MTIME_NS), name
    assert not [name for name in tree(to) if DRAFT in name]
    words = sum(map(len, LINKS.values()))
    assert store.bytes_served <= words + sum(len(body) for name, body in OBJECTS.items() if name not in left)


def files_of(to: Path, *, drafts: bool = True) -> dict[str, bytes]:
    """Regular files by path."""
    found = {
        name: body for name, body in tree(to).items() if body is not None and not (to / name).is_symlink()
    }
    return {name: body for name, body in found.items() if drafts or DRAFT not in name}

"""A process that died may have taken the records of its last small files along: they are not sent again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from syncd.state.lock import StateLock
from tests.support.rig import Rig

HOLD = """
import sys
from syncd.state.lock import StateLock
lock = StateLock.acquire(sys.argv[1])
print("held", flush=True)
if sys.argv[2] == "release":
    lock.release()
else:
    sys.stdin.read()
"""


def _held_by_another(directory: Path, end: str) -> None:
    """Another process takes the lock, and releases it or is killed with it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory), end], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        if end == "killed":
            process.kill()
        process.wait(30)


def test_the_lock_tells_whether_its_last_holder_died_with_it(tmp_path: Path) -> None:
    """After a release it does not, after kill -9 it does, and one clean life later it does not any more."""
    told = []
    for end in ("release", "killed"):
        _held_by_another(tmp_path, end)
        lock = StateLock.acquire(str(tmp_path))
        told.append(lock.interrupted)
        lock.release()
    lock = StateLock.acquire(str(tmp_path))
    told.append(lock.interrupted)
    lock.release()

    assert told == [False, True, False]


def test_a_record_that_died_with_its_process_costs_a_question_not_the_content(tmp_path: Path) -> None:
    """The row of a small file was joined and lost; its object is found by asking, for once."""
    rig = Rig(tmp_path)
    first = rig.reconcile()
    first.begin()
    first.probe()
    assert not first.is_on
    rig.write("a", b"hello")
    rig.sync("a")
    rig.state.forget(rig.ref("a"))  # as if its row had never reached the disk
    rig.restart()
    sent = rig.fake.bytes_received
    rig.state.interrupted = True
    rig.reconcile().begin()

    rig.sync("a")

    assert rig.fake.bytes_received == sent
    assert rig.state.recorded(rig.ref("a")) is not None
    rig.close()

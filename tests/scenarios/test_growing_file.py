"""A file that only grows, in `mode: append`: each object is what it was up to the end of a line, even if it
is rotated during the upload, and what the store has of it is not sent again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from syncd.core.errors import FileChanged, FileError, StoreUnavailable
from syncd.core.plan import Cause, Outcome
from tests.scenarios.test_moving_file import (
    KEY,
    MOMENTS_OF_A_LARGE_FILE,
    MOMENTS_OF_A_RESUMED_FILE,
    MOMENTS_OF_A_SMALL_FILE,
    NAME,
    Arm,
    Scene,
    half_read,
    hashed_to,
    interrupted,
)
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.unit.transfer.multipart import sent_parts


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %04d\n" % number for number in range(first, last))


def grow(rig: Rig, content: bytes, name: str = "log") -> None:
    with (rig.folder / name).open("ab") as file:
        file.write(content)


def carry(rig: Rig, name: str = "log") -> Outcome:
    """One step for a file that has not rested, and has waited for long enough."""
    return rig.engine.sync(rig.ref(name), event=True, settle_seconds=3600.0, overdue=True)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.know(appends=lambda path: True)
    yield rig
    rig.close()


def test_it_is_carried_up_to_its_last_line_when_it_is_overdue(rig: Rig) -> None:
    """Not before; and when no program has it open and it rests, all of it, half a line included."""
    grow(rig, lines(0, 2) + b"half")
    with pytest.raises(FileChanged):
        rig.engine.sync(rig.ref("log"), event=True, settle_seconds=3600.0)
    assert "p/log" not in rig.fake.objects

    outcome = carry(rig)
    assert rig.fake.objects["p/log"].data == lines(0, 2)
    assert outcome.look_again_seconds is not None
    assert carry(rig).bytes_sent == 0

    rig.sync("log")
    assert rig.fake.objects["p/log"].data == lines(0, 2) + b"half"


def test_while_a_program_has_it_open_it_ends_with_a_line_however_long_it_rests(rig: Rig) -> None:
    """Programs write blocks: half a line may wait for hours for its other half."""
    with (rig.folder / "log").open("ab") as file:
        file.write(lines(0, 1) + b"half")
        file.flush()
        rig.sync("log")
        assert rig.fake.objects["p/log"].data == lines(0, 1)
        rig.now_ns = lambda: time.time_ns() + 10**10
        again = rig.sync("log")
        assert (again.bytes_sent, again.look_again_seconds) == (0, None)


def test_without_a_whole_line_it_waits(rig: Rig) -> None:
    """For a minute, as its end is looked for from its beginning."""
    grow(rig, b"no line yet")
    with pytest.raises(FileChanged, match="no new complete line") as raised:
        carry(rig)
    assert raised.value.quiet_seconds == 60.0


def test_what_grew_loses_nothing_in_the_store(rig: Rig) -> None:
    """Half a line that was carried when no program had the file open stays there until it is a whole one."""
    grow(rig, lines(0, 1) + b"half")
    rig.sync("log")
    with (rig.folder / "log").open("ab", buffering=0) as file:
        os.utime(rig.folder / "log")
        assert rig.sync("log").bytes_sent == 0
        file.write(b" of ")
        with pytest.raises(FileChanged, match="no new complete line"):
            carry(rig)
        assert rig.fake.objects["p/log"].data == lines(0, 1) + b"half"
        file.write(b"it\nmore")
        carry(rig)
        assert rig.fake.objects["p/log"].data == lines(0, 1) + b"half of it\n"

    (rig.folder / "log").write_bytes(lines(5, 6) + b"ha")  # emptied: shorter itself
    carry(rig)
    assert rig.fake.objects["p/log"].data == lines(5, 6)


def test_it_is_cut_anywhere_where_lines_mean_nothing(rig: Rig) -> None:
    """`boundary: byte`."""
    rig.configure(append_to_line=False)
    grow(rig, b"no line yet")
    carry(rig)
    assert rig.fake.objects["p/log"].data == b"no line yet"


def test_only_its_tail_is_sent(rig: Rig) -> None:
    """The store copies the parts that it has, and that counts as appended."""
    grow(rig, lines(0, 8))
    carry(rig)
    rig.fake.reset_counters()
    grow(rig, lines(8, 9))
    outcome = carry(rig)

    assert rig.fake.objects["p/log"].data == lines(0, 9)
    assert sent_parts(rig.fake) == [11, 12]
    assert outcome.saved == {Cause.APPEND: 10 * PART}
    assert outcome.bytes_sent == 90 - 10 * PART


def test_an_interrupted_upload_goes_on_where_it_was_although_the_file_has_grown(rig: Rig) -> None:
    """Else a long upload over a bad line would begin again each time. What came since follows."""
    grow(rig, lines(0, 8))
    rig.fake.fail("upload_part", StoreUnavailable("cut"), times=None, when=lambda call: call.number > 4)
    with pytest.raises(StoreUnavailable):
        carry(rig)
    rig.fake.heal()
    grow(rig, lines(8, 12))
    rig.fake.reset_counters()
    rig.restart()
    rig.know(appends=lambda path: True)

    # As after every start: nothing waits for what was begun.
    outcome = rig.engine.sync(rig.ref("log"), event=True, settle_seconds=3600.0)
    assert rig.fake.calls["create_multipart_upload"] == 0
    assert outcome.saved.keys() == {Cause.RESUME}
    assert rig.fake.objects["p/log"].data == lines(0, 8)
    assert outcome.look_again_seconds is not None
    rig.sync("log")
    assert rig.fake.objects["p/log"].data == lines(0, 12)


def test_a_renamed_log_is_carried_first_and_only_its_tail_is_sent(rig: Rig) -> None:
    """Its parts are copied from the object of its old name, which so long is not replaced."""
    rig.engine.heirs.siblings = lambda ref: [rig.ref("log"), rig.ref("log.1")]
    grow(rig, lines(0, 8))
    carry(rig)
    grow(rig, lines(8, 9))
    (rig.folder / "log").rename(rig.folder / "log.1")
    rig.write("log", lines(100, 101))
    rig.fake.reset_counters()
    with pytest.raises(FileChanged, match="copied first"):
        carry(rig)
    outcome = rig.sync("log.1")
    carry(rig)

    assert outcome.saved == {Cause.APPEND: 10 * PART}
    assert rig.fake.objects["p/log.1"].data == lines(0, 9)
    assert rig.fake.objects["p/log"].data == lines(100, 101)


# ---- rotation, at any moment of the way --------------------------------------------------------------------


def renamed(path: Path) -> None:
    """And a new one in its place, which soon is longer."""
    path.rename(f"{path}.1")
    path.write_bytes(NEW)


def copied_and_emptied(path: Path) -> None:
    """The same file goes on with other lines, and soon is longer."""
    Path(f"{path}.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(NEW)


OLD, NEW = lines(0, 6), lines(1000, 1020)
MOMENTS: dict[str, tuple[Arm, bytes]] = {
    **{
        f"small, {name}": (MOMENTS_OF_A_SMALL_FILE[name], lines(0, 1)[2:])
        for name in ("about to be opened", "opened", "read", "after put")
    },
    "small, half read after it was cut": (half_read(0, nth=3), lines(0, 1)[2:]),
    "resumed, hashed to block 5": (hashed_to(5), OLD),
    **{
        f"large, {name}": (MOMENTS_OF_A_LARGE_FILE[name], OLD)
        for name in ("hashed to block 5", "hashed", "half of part 4 read", "after part 4", "before complete")
    },
    **{f"resumed, {name}": (arm, OLD) for name, arm in MOMENTS_OF_A_RESUMED_FILE.items()},
}


@pytest.mark.parametrize("change", [renamed, copied_and_emptied], ids=lambda change: change.__name__)
@pytest.mark.parametrize("moment", MOMENTS)
def test_rotation_loses_nothing_and_mixes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, change: Callable[[Path], None]
) -> None:
    """Whatever is in the store was written in that order, into one file, line by line; in the end all is."""
    scene = Scene(tmp_path, FakeStore(SMALL_LIMITS), monkeypatch)
    arm, content = MOMENTS[moment]
    scene.rig.write(NAME, content)
    scene.rig.know(appends=lambda path: True)
    if moment.startswith("resumed"):
        interrupted(scene)
    arm(scene, scene.once(change))
    with suppress(FileError):
        carry(scene.rig, NAME)
    assert scene.changed > 0, "the moment never came"
    scene.hooked.hooks.clear()
    scene.patch.undo()

    sent = scene.object()
    assert sent is None or (sent.endswith(b"\n") and (content.startswith(sent) or NEW.startswith(sent)))
    for name in (NAME, f"{NAME}.1"):
        while scene.rig.sync(name).bytes_sent:
            assert NEW.startswith(scene.rig.fake.objects[KEY].data)
        assert scene.rig.fake.objects[f"p/{name}"].data == (scene.rig.folder / name).read_bytes()
    assert scene.uploads() == []
    scene.rig.close()


@pytest.mark.parametrize("moment", ["hashed to block 1", "hashed to block 5", "hashed", "after part 4"])
def test_a_log_that_was_emptied_before_begins_with_a_hole_after_each_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Its writer did not open it to append, and goes on where it was: only the end tells the two apart."""
    monkeypatch.setattr("syncd.sources.files._PIECE", 2 * PART)
    scene = Scene(tmp_path, FakeStore(SMALL_LIMITS), monkeypatch)
    before = bytes(3 * PART) + OLD
    after = bytes(len(before)) + NEW

    def emptied(path: Path) -> None:
        os.truncate(path, 0)
        with path.open("r+b") as file:
            file.seek(len(before))
            file.write(NEW)

    scene.rig.write(NAME, before)
    scene.rig.know(appends=lambda path: True)
    MOMENTS_OF_A_LARGE_FILE[moment](scene, scene.once(emptied))
    with suppress(FileError):
        carry(scene.rig, NAME)
    assert scene.changed > 0, "the moment never came"
    scene.hooked.hooks.clear()
    scene.patch.undo()

    sent = scene.object()
    assert sent is None or before.startswith(sent) or after.startswith(sent)
    while scene.rig.sync(NAME).bytes_sent:
        pass
    assert scene.rig.fake.objects[KEY].data == after
    scene.rig.close()

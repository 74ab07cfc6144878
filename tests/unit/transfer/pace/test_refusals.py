"""Which states of files a store refused, and until when they wait."""

from __future__ import annotations

from math import inf

import pytest
from msgspec.structs import replace

from syncd.core.errors import StoreError, StoreRefused
from syncd.core.model import Failure, FileRef, FileStat, Source
from syncd.storage.settings import DirSettings
from syncd.transfer.pace.refusals import Refusals

SOURCE = Source("docs", "/srv/\udcff", "store")
REF = FileRef("docs", "a\udcff")
SEEN = FileStat(1, 2, 3, 4, 5)
OTHER = SEEN._replace(mtime_ns=6)
HOUR = 3600.0


def made(source: Source = SOURCE, path: str = "/mnt/nas") -> Refusals:
    return Refusals(DirSettings(path), lambda name: source)


def refusal(seen: FileStat | None = SEEN) -> StoreError:
    error = StoreRefused("no", status=403)
    error.seen = seen
    return error


def failure(refusals: int, next_attempt_ns: int) -> Failure:
    return Failure(REF, "no", 5, next_attempt_ns, refusals, made().name_of(REF, SEEN))


@pytest.mark.parametrize(
    ("refusals", "next_ns", "seconds"),
    [
        (0, 10**12, 0.0),
        (1, 10**12, 0.0),  # twice is what a state is sent at once
        (2, 10**12 + 5, 1000.0 - 100.0),
        (2, 99 * 10**9, 0.0),
        (9, 10**18, 24 * HOUR),  # the wall clock was set
        (2, 0, inf),  # it has used up its attempts
    ],
)
def test_what_an_earlier_process_was_refused_twice_waits(refusals: int, next_ns: int, seconds: float) -> None:
    """As long as that one would have waited."""
    mine = made()
    mine.remember(failure(refusals, next_ns), 7.0, 100 * 10**9)
    assert mine.seconds(REF, SEEN, 7.0) == pytest.approx(seconds)
    mine.pardon(REF)
    assert mine.attempt(REF, refusal(), 7.0) == (6, refusals)


def test_another_state_and_other_settings_do_not_wait() -> None:
    """What the store refused has the name that it had in the earlier process, and nothing else has it."""
    for mine, seen in (
        (made(), OTHER),
        (made(path="/mnt/other"), SEEN),
        (made(replace(SOURCE, keeps_attributes=True)), SEEN),
    ):
        mine.remember(failure(3, 10**12), 0.0, 0)
        assert mine.seconds(REF, seen, 0.0) == 0.0
        assert mine.attempt(REF, refusal(seen), 0.0) == (1, 0)


def test_a_file_that_used_up_its_attempts_is_not_tried_for_others() -> None:
    """It is in no queue: the others would wait for what becomes of it."""
    mine, names = made(), ["a", "b", "c"]
    for name in names:
        mine.count(FileRef("docs", name), 2, 2)
        mine.refuse(FileRef("docs", name), refusal(), inf if name == "a" else 100.0)
    assert mine.acquit(FileRef("docs", "good")) == {FileRef("docs", "b")}
    assert mine.acquit(FileRef("docs", "b")) == {FileRef("docs", "c")}


def test_a_source_that_goes_leaves_nothing() -> None:
    """Neither what failed nor what was refused."""
    mine = made()
    mine.count(REF, 2, 2)
    mine.refuse(REF, refusal(), 100.0)
    mine.discard("other")
    assert mine.seconds(REF, SEEN, 0.0) == 100.0
    mine.discard("docs")
    assert (mine.seconds(REF, SEEN, 0.0), mine.attempts(REF)) == (0.0, 0)

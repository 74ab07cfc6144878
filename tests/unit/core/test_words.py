"""Each file has one word, and the reason behind it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core import plan, words
from syncd.core.model import Failure, FileRef, FileStat, Fingerprint, Irregular, OnDelete, Recorded
from syncd.core.patterns import Rules
from syncd.core.words import (
    Facts,
    Queued,
    done_words,
    human,
    human_seconds,
    iso,
    left_out,
    queue_word,
    word_of,
)

WORDS = set(re.findall(r"^([a-z]+)  ", words.__doc__ or "", re.MULTILINE))
"""The table that the module begins with."""
NOW = 1_700_000_000 * 10**9
STAT = FileStat(1, 2, 5, NOW - 10**12, NOW - 10**12)
YOUNG = STAT._replace(ctime_ns=NOW - 10**9)
ROW = Recorded(STAT, Fingerprint(bytes(16), 5), "store", "k", "etag", NOW)
FAILURE = Failure(FileRef("s", "a"), "too long", 2, 0)
WANTED, UNWANTED = Rules([], []).explain("a"), Rules([], ["a"]).explain("a")
PLAIN = Facts(now_ns=NOW, verdict=WANTED, seen=STAT, difference="new", settle_seconds=2.0)
STORED = replace(PLAIN, recorded=ROW, difference=None)
GONE = replace(STORED, seen=None)
RUNS = replace(PLAIN, running=True)


def in_queue(**more: object) -> Facts:
    return replace(RUNS, queued=Queued(**{"in_work": False, "due_seconds": 0.0, **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "word", "reason"),
    [
        (STORED, "stored", "as k since 2023-11-14T22:13:20Z, 5 B, xxh128 00000000"),
        (replace(STORED, recorded=replace(ROW, etag="")), "stored", "check its object once more"),
        (PLAIN, "pending", "new; the next pass picks it up, no daemon runs"),
        (replace(PLAIN, arrived=(1024, 4096)), "pending", "1.0 KiB of 4.0 KiB have arrived"),
        (RUNS, "pending", "new; the next scan picks it up"),
        (replace(RUNS, seen=YOUNG), "settling", "changed 1.0 s ago"),
        (in_queue(), "pending", "it waits for a worker"),
        (replace(PLAIN, min_age_seconds=1060.0), "settling", "younger than `min_age`, and is read in 1 min"),
        (replace(in_queue(deferred=True), min_age_seconds=1060.0), "settling", "and is read in 1 min 0 s"),
        (replace(PLAIN, min_age_seconds=999.0), "pending", "new; the next pass picks it up"),
        (replace(STORED, min_age_seconds=1060.0), "stored", "as k since"),
        (in_queue(due_seconds=5.0), "settling", "read in 5.0 s if it stays quiet"),
        (in_queue(due_seconds=5.0, restless_seconds=250), "settling", "not quiet for 4 min 10 s"),
        (in_queue(due_seconds=70.0, deferred=True), "pending", "tried again in 1 min 10 s"),
        (replace(in_queue(), store_waits="store m is paused: no"), "pending", "store m is paused: no"),
        (in_queue(in_work=True), "uploading", "it is being read"),
        (replace(in_queue(in_work=True), arrived=(1, 4)), "uploading", "1 B of 4 B"),
        (replace(in_queue(in_work=True), arrived=(1024, 3072), bytes_per_second=1024.0), "uploading",
         "1.0 KiB of 3.0 KiB, 1.0 KiB/s, 2.0 s left"),
        (replace(in_queue(in_work=True), failure=FAILURE), "uploading", "it is being read"),
        (replace(PLAIN, failure=FAILURE), "failed", "too long (2 attempts, again when it changes)"),
        (replace(PLAIN, failure=replace(FAILURE, attempts=1, next_attempt_ns=NOW)), "failed",
         "(1 attempt, again 2023-11-14T22:13:20Z)"),
        (replace(PLAIN, unseen="Permission denied"), "unknown", "Permission denied"),
        (replace(PLAIN, unseen="Permission denied", failure=FAILURE), "failed", "too long"),
        (replace(PLAIN, verdict=UNWANTED), "excluded", "`a` of `exclude` matches"),
        (replace(STORED, verdict=UNWANTED), "excluded", "its object k stays"),
        (replace(PLAIN, seen=Irregular("fifo")), "skipped", "a fifo"),
        (replace(PLAIN, seen=Irregular("directory")), "skipped", "a directory: syncd uploads the files"),
        (GONE, "gone", "its object k is kept"),
        (replace(GONE, on_delete=OnDelete.DELETE), "gone", "deleted by the next pass, if"),
        (replace(GONE, on_delete=OnDelete.DELETE, running=True), "gone", "is deleted soon"),
        (replace(GONE, on_delete=OnDelete.DELETE, deletes_wait="too many"), "gone", "confirmation: too many"),
        (replace(GONE, on_delete=OnDelete.DELETE, store_waits="paused"), "gone", "is deleted later: paused"),
        (replace(GONE, seen=Irregular("directory")), "gone", "a directory took its place; its object k"),
        (replace(GONE, seen=Irregular("fifo")), "skipped", "a fifo; its object k stays"),
        (replace(PLAIN, seen=None, difference=None), "unknown", "there is no such file"),
        (replace(STORED, source_waits="the root is missing"), "unknown", "the source waits: the root is"),
        (replace(RUNS, unwatched="nfs"), "unwatched", "new; the next scan finds it"),
        (replace(STORED, running=True, unwatched="nfs"), "stored", "as k since"),
        (replace(STORED, recorded=replace(ROW, key="a\nb")), "stored", "as a\\x0ab since"),
    ],
)  # fmt: skip
def test_the_word_of_a_file(facts: Facts, word: str, reason: str) -> None:
    """A row for each word and each reason."""
    said = word_of(facts)
    assert said.word == word
    assert reason in said.reason
    assert said.reason.isprintable()


def test_the_table_has_every_word() -> None:
    """No word is there that no file can have."""
    (mark,) = (mark for mark in test_the_word_of_a_file.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert {row[1] for row in mark.args[1]} == WORDS


@given(
    st.fixed_dictionaries(
        {
            "now_ns": st.just(NOW),
            "verdict": st.sampled_from([WANTED, UNWANTED]),
            "source_waits": st.sampled_from(["", "missing"]),
            "unseen": st.sampled_from(["", "denied"]),
            "seen": st.sampled_from([None, STAT, YOUNG, Irregular("socket"), Irregular("directory")]),
            "recorded": st.sampled_from([None, ROW]),
            "difference": st.sampled_from([None, "new"]),
            "failure": st.sampled_from([None, FAILURE]),
            "arrived": st.sampled_from([None, (0, 9), (3, 9)]),
            "running": st.booleans(),
            "queued": st.sampled_from(
                [None, Queued(True, 0.0), Queued(False, 1.0), Queued(False, -1.0, True)]
            ),
            "store_waits": st.sampled_from(["", "paused"]),
            "unwatched": st.sampled_from(["", "nfs"]),
        }
    ).map(lambda facts: Facts(**facts))
)
def test_whatever_is_known_there_is_one_word(facts: Facts) -> None:
    """And a reason that is not empty; what the store has not is never called stored."""
    said = word_of(facts)
    assert said.word in WORDS
    assert said.reason
    if said.word == "stored":
        assert facts.recorded is not None
        assert facts.difference is None
        assert facts.failure is None


def test_numbers_are_written_for_people() -> None:
    """Two units at most."""
    assert [human(size) for size in (0, 1023, 1024, 5 << 30, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 GiB", "3.0 TiB",
    ]  # fmt: skip
    assert [human_seconds(seconds) for seconds in (0.5, 59, 61, 3600, 90_000, 200_000)] == [
        "0.5 s", "59 s", "1 min 1 s", "1 h 0 min", "25 h 0 min", "2 d 7 h",
    ]  # fmt: skip
    assert [iso(time_ns) for time_ns in (None, 0, 1_700_000_000_999_999_999)] == [
        None, "1970-01-01T00:00:00Z", "2023-11-14T22:13:20Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("queued", "error", "share", "waits", "said"),
    [
        (Queued(True, 0.0), "", None, "", ("uploading", "it is being read")),
        (Queued(True, 0.0), "", (1, 4), "", ("uploading", "1 B of 4 B")),
        (Queued(False, 2.0), "", None, "paused", ("settling", "it is read in 2.0 s if it stays quiet")),
        (Queued(False, -2.0), "", None, "", ("pending", "it waits for a worker")),
        (Queued(False, -2.0), "", None, "paused", ("pending", "paused")),
        (Queued(False, 5.0, True), "", None, "", ("pending", "again in 5.0 s")),
        (Queued(False, 5.0, True), "too long", None, "", ("failed", "too long; again in 5.0 s")),
        (Queued(False, -5.0, True), "too long", None, "paused", ("failed", "too long; paused")),
        (
            Queued(False, 5.0, True),
            "it is full",
            None,
            "store s: it is full",
            ("failed", "store s: it is full"),
        ),
    ],
)
def test_the_word_of_a_file_by_the_queue_alone(
    queued: Queued, error: str, share: tuple[int, int] | None, waits: str, said: tuple[str, str]
) -> None:
    """A list of many files does not look at the disk for each."""
    assert queue_word(queued, error, share, waits) == said


@pytest.mark.parametrize(
    ("kind", "two"),
    [
        ("symbolic link", "2 symbolic links"),
        ("fifo", "2 fifos"),
        ("excluded directory", "2 excluded directories"),
        ("file over max_size", "2 files over max_size"),
        ("file younger than min_age", "2 files younger than min_age"),
        ("directory on another file system", "2 directories on another file system"),
        ("directory made up by the kernel", "2 directories made up by the kernel"),
        ("directory with a file over it", "2 directories with a file over it"),
    ],
)
def test_what_is_left_out_is_counted_by_its_noun(kind: str, two: str) -> None:
    """Whatever follows it."""
    assert left_out({kind: 2, "socket": 1}) == f"{two}, 1 socket"
    assert left_out({kind: 1}) == f"1 {kind}"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (plan.Outcome(plan.Upload("new"), 1), "uploaded: new; 1 byte sent"),
        (
            plan.Outcome(plan.Upload("new"), 5, {plan.Cause.DELTA: 7}),
            "uploaded: new; 5 bytes sent, 7 were there",
        ),
        (plan.Outcome(plan.Copy(ROW, "renamed"), size=5), "copied inside the store: renamed"),
        (plan.Outcome(plan.Adopt("no record"), size=5), "adopted: no record; the store had 5 bytes"),
        (plan.Outcome(plan.Delete("gone")), "deleted: gone"),
    ],
)
def test_what_was_done_is_told_in_words(outcome: plan.Outcome, told: str) -> None:
    assert done_words(outcome) == told

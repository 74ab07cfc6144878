"""What is recorded is told again, in order, to everybody, and one flush serves many."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.errors import StateError
from syncd.core.model import (
    LATEST_NS,
    OLDEST_NS,
    OVERTAKEN,
    Checkpoint,
    Destination,
    Failure,
    FileRef,
    FileStat,
    Fingerprint,
    LastScan,
    Part,
    Recorded,
    RootIdentity,
)
from syncd.core.parts import PartDigests
from syncd.core.plan import Cause
from syncd.state import queries, writer
from syncd.state.audits import Round, Unlike
from syncd.state.state import State
from tests.support.clock import FakeClock

STAT = FileStat(device=65024, inode=1234, size=5, mtime_ns=1_700_000_000_123_456_789, ctime_ns=1_700_000_001)
CONTENT = Fingerprint(bytes(range(16)), 5)
RECORDED = Recorded(STAT, CONTENT, "s3:host/bucket", "pre/a.txt", '"etag"', 1_700_000_002_000_000_000)
REF = FileRef("photos", "a.txt")


def checkpoint(ref: FileRef = REF) -> Checkpoint:
    return Checkpoint(0, ref, "s3:host/bucket", "pre/a.txt", CONTENT, STAT, 1 << 20, "token", 77)


def seen_outside(state_directory: Path, sql: str) -> list[tuple[object, ...]]:
    """What another process would read: only what was committed."""
    connection = sqlite3.connect(f"file:{state_directory / 'state.db'}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# ---- recorded files ---------------------------------------------------------------------------------------

names = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: os.fsdecode(b"/".join(parts)))
unsigned = st.integers(0, 2**64 - 1)
times = st.integers(OLDEST_NS, LATEST_NS)
stats = st.builds(FileStat, unsigned, unsigned, st.integers(0, 2**63 - 1), times, times)
contents = st.builds(Fingerprint, st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1))
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
recordeds = st.builds(Recorded, stats, contents, keys, keys, keys, times, st.booleans())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=paths, recorded=recordeds)
def test_every_value_comes_back_as_it_went_in(state: State, path: str, recorded: Recorded) -> None:
    """Any name and any number that a file system can have is told again exactly."""
    ref = FileRef("any", path)

    state.commit(ref, recorded, durable=False)
    state.flush()

    assert state.recorded(ref) == recorded


def test_names_that_are_not_utf8_are_different_files(state: State) -> None:
    """Names are told apart by their bytes, and come back as those bytes."""
    refs = [FileRef("s", os.fsdecode(name)) for name in (b"\xff", b"\xfe", "\u00ff".encode(), b"a\nb")]
    for number, ref in enumerate(refs):
        state.commit(ref, replace(RECORDED, key=f"k{number}"))

    assert [state.recorded(ref) for ref in refs] == [replace(RECORDED, key=f"k{n}") for n in range(4)]
    assert [path for path, _ in state.recorded_page("s", None, 9)] == sorted(
        os.fsencode(ref.path) for ref in refs
    )


def test_never_recorded_is_none(state: State) -> None:
    """A file that was never committed has no record, nor has the same path in another source."""
    state.commit(REF, RECORDED)

    assert state.recorded(FileRef("photos", "b.txt")) is None
    assert state.recorded(FileRef("films", "a.txt")) is None


def test_a_later_commit_replaces_the_former(state: State) -> None:
    """One file has one record: the last."""
    state.commit(REF, RECORDED)
    state.commit(REF, replace(RECORDED, etag="other", racy=True))

    assert state.recorded(REF) == replace(RECORDED, etag="other", racy=True)
    assert len(state.recorded_page("photos", None, 10)) == 1


def test_the_row_of_a_deleted_file_moves_out_of_the_way_and_back(state: State) -> None:
    """No scan meets it, and it is not counted. All who ask for it or its content find it, with its parts."""
    grid = PartDigests(3, (bytes(16), bytes(16)))
    state.commit(REF, RECORDED, part_digests=grid)
    state.commit(FileRef("photos", "b"), RECORDED)

    def met() -> list[bytes]:
        outline = [row[0] for row in state.outline_page("photos", ("", b""), b"", b"", 9)]
        assert outline == [path for path, _ in state.recorded_page("photos", None, 9)]
        assert state.recorded_totals("photos") == (len(outline), len(outline) * STAT.size)
        return outline

    state.keep(REF, replace(RECORDED, etag="another"))
    assert met() == [b"a.txt", b"b"], "a row that was replaced in between stays"
    state.keep(REF, RECORDED)
    assert met() == [b"b"]
    kept = replace(RECORDED, kept=True, racy=True)
    assert state.recorded(REF) == kept
    assert dict(state.all_recorded("photos")) == {REF: kept, FileRef("photos", "b"): RECORDED}
    outline = state.outline_page("photos", ("", b""), b"", b"", 9, kept=True)
    assert [row[0] for row in outline] == [b"a.txt", b"b"], "where deletions are not kept, a scan meets it"
    assert (REF, kept) in state.find_content("s3:host/bucket", CONTENT)
    assert state.part_digests(REF) == grid

    state.doubt(REF, kept)
    assert met() == [b"b"], "a doubt about its object does not bring it back"
    state.commit(REF, RECORDED)
    assert met() == [b"a.txt", b"b"]
    assert state.part_digests(REF) == grid
    state.keep(REF, RECORDED)
    state.commit(REF, replace(RECORDED, fingerprint=Fingerprint(bytes(16), 5)))
    assert state.part_digests(REF) is None, "of other content"
    state.keep(REF, replace(RECORDED, fingerprint=Fingerprint(bytes(16), 5)))
    state.forget(REF)
    assert state.recorded(REF) is None


def test_what_is_said_of_all_rows_is_said_of_those_of_deleted_files(tmp_path: Path) -> None:
    """Another number of their disk, another hand at their objects, and a source that is no longer there."""
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)) as state:
        state.serve([Destination("photos", RECORDED.store_id, "pre/")])
        state.commit(REF, RECORDED)
        state.keep(REF, RECORDED)
        state.renumber_device("photos", STAT.device, 7)
        row = state.recorded(REF)
        assert row is not None
        assert (row.stat.device, row.life) == (7, state.life)
        state.overtake("photos")
        row = state.recorded(REF)
        assert row is not None
        assert row.life == OVERTAKEN
        assert row.kept
        state.serve([Destination("others", RECORDED.store_id, "pre/")])
        assert state.recorded(REF) is None
        assert seen_outside(tmp_path, "SELECT count(*) FROM kept") == [(0,)]


def test_pages_follow_each_other_in_the_order_of_bytes(state: State) -> None:
    """Pages of any size, one after the other, are all files of the source in the order of full paths."""
    wanted = sorted([b"a", b"a/b", b"a.b", b"a0", b"a/b/c", b"\xff/x", b"b"])
    for path in wanted:
        state.commit(FileRef("s", os.fsdecode(path)), RECORDED, durable=False)
        state.commit(FileRef("other", os.fsdecode(path)), RECORDED, durable=False)

    for limit in (1, 2, 3, 7, 100):
        told: list[bytes] = []
        while page := state.recorded_page("s", told[-1] if told else None, limit):
            assert len(page) <= limit
            told += [path for path, _ in page]
        assert told == wanted


@pytest.mark.parametrize("after", [None, b"a/b", b"0"])
def test_a_page_below_a_directory_holds_nothing_else(state: State, after: bytes | None) -> None:
    """Names that only begin like the directory are not below it."""
    for path in (b"a", b"a.b", b"a/b", b"a/b/c", b"a/z", b"a0", b"ab/c"):
        state.commit(FileRef("s", os.fsdecode(path)), RECORDED, durable=False)

    told = [path for path, _ in state.recorded_page("s", after, 10, below=b"a")]

    assert told == [p for p in (b"a/b", b"a/b/c", b"a/z") if after is None or p > after]


def test_an_outline_says_whether_a_stat_proves_something(state: State) -> None:
    """Only a record in this very store, under this key, of a stat that was old enough, is firm."""
    aimed = {name: replace(RECORDED, key=f"pre/{name}") for name in ("a", "b", "c", "\xe9", "\udcff")}
    state.commit(FileRef("s", "a"), aimed["a"])
    state.commit(FileRef("s", "b"), replace(aimed["b"], racy=True))
    state.commit(FileRef("s", "c"), replace(aimed["c"], store_id="elsewhere"))
    state.commit(FileRef("s", "d"), aimed["a"])
    state.commit(FileRef("s", "\xe9"), aimed["\xe9"])
    state.commit(FileRef("s", "\udcff"), replace(RECORDED, key="pre/%FF"))

    page = state.outline_page("s", ("s3:host/bucket", b"pre/"), b"", b"", 10)

    firm = [(b"a", 1), (b"b", 0), (b"c", 0), (b"d", 0), ("\xe9".encode(), 1), (b"\xff", 0)]
    assert [(row[0], row[6]) for row in page] == firm
    assert page[0][1:6] == (5, STAT.mtime_ns, STAT.ctime_ns, STAT.inode, STAT.device)


def test_content_is_found_under_all_its_names(state: State) -> None:
    """Files with this digest and size in this store, joined ones too, and not more than asked for."""
    same = [FileRef("s", "a"), FileRef("t", "b")]
    for ref in same:
        state.commit(ref, RECORDED)
    state.commit(FileRef("s", "other store"), replace(RECORDED, store_id="x"))
    state.commit(FileRef("s", "other size"), replace(RECORDED, fingerprint=Fingerprint(CONTENT.digest, 6)))

    assert sorted(state.find_content("s3:host/bucket", CONTENT)) == [(ref, RECORDED) for ref in same]
    assert len([*state.find_content("s3:host/bucket", CONTENT, limit=1)]) == 1
    assert [*state.find_content("nowhere", CONTENT)] == []


@pytest.mark.parametrize("size", [3, 1 << 20, (1 << 20) + 1, 1 << 40])
def test_content_of_a_size_is_known_or_not(state: State, size: int) -> None:
    """Also what is not written yet, and that of a deleted file; not that of another store or size."""
    recorded = replace(RECORDED, fingerprint=Fingerprint(b"c" * 16, size))
    assert not state.has_size(recorded.store_id, size)

    state.commit(REF, recorded, durable=False)
    assert state.has_size(recorded.store_id, size)
    state.keep(REF, recorded)
    assert state.has_size(recorded.store_id, size)
    assert not state.has_size(recorded.store_id, size + 1)
    assert not state.has_size("s3:host/other", size)


def test_the_size_of_a_large_file_is_looked_up_in_an_index(state: State, tmp_path: Path) -> None:
    """However many files are recorded."""
    asked: list[str] = []
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as connection:
        connection.set_trace_callback(asked.append)
        queries.has_size(connection, "s3:host/bucket", 1 << 40)
        connection.set_trace_callback(None)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    assert [step for step in plan if "SCAN" in step] == []
    assert sum("_by_size" in step for step in plan) == 2


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 1 << 40)), max_size=12))
def test_totals_of_a_source_follow_every_change(state: State, steps: list[tuple[str, int | None]]) -> None:
    """Count and bytes equal the sum over the records, whatever was committed, replaced and forgotten."""
    for name in "abc":
        state.forget(FileRef("counted", name), durable=False)
    sizes: dict[str, int] = {}
    for name, size in steps:
        ref = FileRef("counted", name)
        if size is None:
            state.forget(ref, durable=False)
            sizes.pop(name, None)
        else:
            state.commit(ref, replace(RECORDED, stat=STAT._replace(size=size)), durable=False)
            sizes[name] = size

    assert state.recorded_totals("counted") == (len(sizes), sum(sizes.values()))
    assert state.recorded_totals("never heard of") == (0, 0)


def test_a_new_device_number_changes_nothing_else(state: State) -> None:
    """Records and uploads of the old device number count for the new one; other sources and devices stay."""
    nested = replace(checkpoint(FileRef("s", "nested")), stat=STAT._replace(device=9))
    begun = [
        state.checkpoints.begin(checkpoint(FileRef("s", "a"))),
        state.checkpoints.begin(checkpoint(FileRef("t", "a"))),
    ]
    begun.append(state.checkpoints.begin(nested))
    state.commit(FileRef("s", "a"), RECORDED)
    state.commit(FileRef("s", "nested"), replace(RECORDED, stat=STAT._replace(device=9)))
    state.commit(FileRef("t", "a"), RECORDED)

    state.renumber_device("s", STAT.device, 2**63 + 5)

    moved = replace(RECORDED, stat=STAT._replace(device=2**63 + 5))
    assert state.recorded(FileRef("s", "a")) == moved
    assert state.recorded(FileRef("s", "nested")) == replace(RECORDED, stat=STAT._replace(device=9))
    assert state.recorded(FileRef("t", "a")) == RECORDED
    assert state.checkpoints.all() == [replace(begun[0], stat=moved.stat), *begun[1:]]


STORE, OTHER = "s3:host/bucket", "s3:host/other"
BEFORE = [Destination("photos", STORE, "pre/"), Destination("beside", STORE, "else/")]


@pytest.mark.parametrize(
    ("after", "overtaken"),
    [
        (BEFORE, False),
        (BEFORE[:1], False),
        ([], False),
        ([*BEFORE, Destination("third", STORE, "pref/")], False),
        ([BEFORE[0], Destination("third", OTHER, "pre/")], False),
        ([Destination("third", STORE, "pre/")], None),
        ([Destination("beside", STORE, "pre/"), Destination("photos", STORE, "else/")], True),
        ([Destination("photos", STORE, "")], True),  # another file of the source may be `pre/a.txt`
        ([Destination("photos", STORE, "other/")], False),
    ],
)
def test_rows_are_overtaken_where_the_key_becomes_another_files(
    state: State, after: list[Destination], overtaken: bool | None
) -> None:
    """They stay as they are but for that mark, which makes a scan look; the next commit takes it away.
    Rows of a source that is not configured any more go (None).
    """
    state.serve(BEFORE)
    state.commit(REF, RECORDED)

    state.serve(after)
    state.serve(after)

    row = state.recorded(REF)
    if overtaken is None:
        assert row is None
    else:
        assert row is not None
        assert (row.life == OVERTAKEN, row.racy) == (overtaken, overtaken)
        assert replace(row, racy=False) == RECORDED
    state.serve(BEFORE)
    state.commit(REF, RECORDED)
    row = state.recorded(REF)
    assert row is not None
    assert row.life == state.life


def test_a_row_that_comes_after_its_key_is_anothers_is_overtaken_from_the_start(state: State) -> None:
    """Written by a request that was begun before; and a doubt does not take the mark away."""
    state.serve([Destination("third", STORE, "pre/")])
    state.commit(REF, RECORDED)
    row = state.recorded(REF)
    assert row is not None
    assert row.life == OVERTAKEN
    state.serve(BEFORE)
    state.doubt(REF, row)
    row = state.recorded(REF)
    assert row is not None
    assert (row.life, row.in_doubt) == (OVERTAKEN, True)


def test_where_files_go_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    """A source takes over the keys of another, in a process of its own."""
    swapped = [Destination("photos", STORE, "else/"), Destination("beside", STORE, "pre/")]
    for destinations in (BEFORE, swapped, BEFORE):
        state = State.open(str(tmp_path), now_ns=time.time_ns)
        state.serve(destinations)
        if state.life == 1:
            state.commit(REF, RECORDED)
        row = state.recorded(REF)
        state.close()
    assert row is not None
    assert row.life == OVERTAKEN


def test_a_source_that_is_not_configured_any_more_is_forgotten(state: State, tmp_path: Path) -> None:
    """With all that names it, also many rows, and those of deleted files; its uploads are left to be aborted.

    Without any source nothing is forgotten: such a configuration is for other commands.
    """
    ghost = [FileRef("ghost", str(number)) for number in range(20)]
    state.serve([*BEFORE, Destination("ghost", STORE, "ghost/")])
    state.commit(REF, RECORDED)
    for ref in ghost:
        row = replace(RECORDED, key=f"ghost/{ref.path}")
        state.commit(ref, row, part_digests=PartDigests(3, (bytes(16), bytes(16))))
        if ref in ghost[::2]:
            state.keep(ref, row)
    state.failures.record(Failure(FileRef("ghost", "bad"), "no", 1, 0))
    state.learn(STORE, "reconciled:ghost", "1")
    state.note_scan("ghost", 5, 1)
    state.set_root_identity("ghost", RootIdentity(1, 2))
    state.pause("source", "ghost", 0)
    state.audits.keep("ghost", [Unlike(ghost[0], RECORDED.etag, "gone", rotten="e")], 3)
    state.audits.note("ghost", Round(files=3))
    begun = state.checkpoints.begin(
        replace(checkpoint(FileRef("ghost", "big")), key="ghost/big", store_id=STORE)
    )
    state.checkpoints.set_upload_id(begun.id, "u")
    state.checkpoints.add_part(begun.id, Part(1, 5, '"p"'))
    state.serve([])
    assert state.recorded_totals("ghost")[0] == 10

    state.serve(BEFORE)

    assert state.recorded(REF) is not None
    assert state.checkpoints.all() == []
    (left,) = state.checkpoints.leftovers(STORE)
    assert (left.ref, left.key, left.upload_id) == (FileRef("ghost", "big"), "ghost/big", "u")
    state.checkpoints.drop_leftover(left)
    with closing(sqlite3.connect(f"file:{tmp_path / 'state/state.db'}?mode=ro", uri=True)) as connection:
        dump = "\n".join(connection.iterdump())
        tables = ("files", "kept", "part_digests", "parts", "failures", "differences", "checkpoints")
        rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    assert "ghost" not in dump
    assert rows == {**dict.fromkeys(tables, 0), "files": 1}


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (Destination("photos", STORE, "pre/"), 0),
        (Destination("photos", OTHER, "pre/"), 1),
        (Destination("photos", STORE, "other/"), 1),
    ],
)
def test_an_upload_that_leads_elsewhere_is_left_to_be_aborted(
    state: State, after: Destination, left: int
) -> None:
    """By the store that has it, when its source goes to another store or under another prefix."""
    state.serve(BEFORE)
    begun = replace(checkpoint(FileRef("photos", "big")), key="pre/big", store_id=STORE)
    state.checkpoints.set_upload_id(state.checkpoints.begin(begun).id, "u")
    state.serve([after])
    assert len(state.checkpoints.leftovers(STORE)) == left
    assert len(state.checkpoints.all()) == 1 - left


# ---- failures, counters, sources --------------------------------------------------------------------------


def test_counters_add_up_over_restarts(tmp_path: Path) -> None:
    """What was counted is still counted after closing and opening again."""
    for round_ in (1, 2):
        state = State.open(str(tmp_path), now_ns=time.time_ns)
        state.add_totals(bytes_sent=10, requests=1)
        state.add_totals(bytes_sent=3, saved={Cause.RESUME: 2, Cause.DELTA: 3})
        state.add_totals(bytes_sent=2**40)
        state.close()
        again = State.open_read_only(str(tmp_path))
        assert again.totals() == {
            "bytes_sent": (2**40 + 13) * round_,
            "bytes_saved": 5 * round_,
            "bytes_saved:resume": 2 * round_,
            "bytes_saved:delta": 3 * round_,
            "bytes_sent:delta": 3 * round_,
            "requests": round_,
        }
        again.close()


def test_counting_from_many_threads_loses_nothing(state: State) -> None:
    """Counters add up while others flush."""

    def count() -> None:
        for _ in range(200):
            state.add_totals(requests=1)
            state.flush()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert state.totals()["requests"] == 800


def test_what_was_learned_is_kept_per_store(state: State) -> None:
    """A lesson belongs to one store; a later one replaces it."""
    state.learn("a", "min_part_size", "1")
    state.learn("a", "min_part_size", "5242880")

    assert state.learned("a", "min_part_size") == "5242880"
    assert state.learned("b", "min_part_size") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.learn(STORE, "own", "2"),
        lambda state: state.unlearn("own"),
        lambda state: state.pause("source", "ghost", 5 << 60),
        lambda state: state.resume([("source", "ghost"), ("all", "")]),
        lambda state: state.add_totals(bytes_sent=7),
        lambda state: state.serve(BEFORE),  # without the source `ghost`
    ],
    ids=["learn", "unlearn", "pause", "resume", "count", "forget a source"],
)
def test_what_is_kept_in_memory_is_what_the_next_process_reads(
    tmp_path: Path, clock: FakeClock, change: Callable[[State], object]
) -> None:
    """What stores have taught us, pauses and totals are read once; no change leaves the old ones behind."""

    def known(state: State) -> object:
        names = ("own", "reconciled:ghost")
        return [state.learned(STORE, name) for name in names], state.pauses(), state.totals()

    with closing(State.open(str(tmp_path), now_ns=clock.now_ns, monotonic=clock.monotonic)) as state:
        state.serve([*BEFORE, Destination("ghost", STORE, "ghost/")])
        for name in ("own", "reconciled:ghost"):
            state.learn(STORE, name, "1")
        state.pause("source", "ghost", 0)
        state.pause("all", "", 0)
        state.add_totals(bytes_sent=1)
        state.note_scan("ghost", 5, 1)
        before = known(state)
        change(state)
        after = known(state)
    with closing(State.open(str(tmp_path), now_ns=clock.now_ns, monotonic=clock.monotonic)) as state:
        assert known(state) == after
    assert after != before


def test_sources_have_a_root_and_a_last_scan(state: State) -> None:
    """Root identity, time of the last scan and drift are told again; drift adds up."""
    assert (state.root_identity("s"), state.last_scan("s")) == (None, LastScan())

    state.note_scan("s", 12345, 3)
    assert state.root_identity("s") is None
    state.set_root_identity("s", RootIdentity(7, 2**64 - 1))
    state.note_scan("s", 12399, 4, "2 errors", {"fifo": 3})

    assert state.root_identity("s") == RootIdentity(7, 2**64 - 1)
    assert state.last_scan("s") == LastScan(12399, 7, "2 errors", {"fifo": 3})


# ---- joined writes ----------------------------------------------------------------------------------------

COUNT_FILES = "SELECT count(*) FROM files"


def test_a_joined_commit_is_seen_at_once_and_on_the_disk_later(tmp_path: Path, state: State) -> None:
    """What was committed without waiting is told to all who ask this state, to others after a flush."""
    state.commit(REF, RECORDED, durable=False)

    assert state.recorded(REF) == RECORDED
    assert [*state.find_content("s3:host/bucket", CONTENT)] == [(REF, RECORDED)]
    assert seen_outside(tmp_path / "state", COUNT_FILES) == [(0,)]

    state.flush()
    assert seen_outside(tmp_path / "state", COUNT_FILES) == [(1,)]
    assert state.recorded(REF) == RECORDED
    assert [*state.find_content("s3:host/bucket", CONTENT)] == [(REF, RECORDED)]


def test_content_that_is_not_written_yet_is_found_without_the_database(state: State) -> None:
    """Of many files with one content, each that is copied asks for a twin, and takes the first."""
    state.commit(FileRef("s", "on the disk"), RECORDED)
    state.commit(REF, RECORDED, durable=False)
    found = state.find_content("s3:host/bucket", CONTENT)
    state._reader.close()

    assert next(found) == (REF, RECORDED)
    with pytest.raises(StateError):
        next(found)


def test_joined_commits_overtake_what_the_disk_has(state: State) -> None:
    """Neither a replaced nor a forgotten record is told any more, though the disk still has it."""
    state.commit(REF, RECORDED)
    state.commit(REF, replace(RECORDED, fingerprint=Fingerprint(b"n" * 16, 5)), durable=False)
    assert [*state.find_content("s3:host/bucket", CONTENT)] == []

    state.forget(REF, durable=False)
    assert state.recorded(REF) is None
    assert [*state.find_content("s3:host/bucket", Fingerprint(b"n" * 16, 5))] == []

    state.commit(REF, RECORDED, durable=True)
    assert state.recorded(REF) == RECORDED


def test_many_joined_commits_share_one_transaction(state: State) -> None:
    """A thousand small results take four transactions, not a thousand."""
    before = state.commits
    for number in range(4 * writer.JOIN_MOST):
        state.commit(FileRef("s", str(number)), RECORDED, durable=False)

    assert state.commits == before + 4
    assert state.recorded_totals("s") == (4 * writer.JOIN_MOST, 5 * 4 * writer.JOIN_MOST)


def test_no_joined_commit_waits_for_long(tmp_path: Path, state: State, clock: FakeClock) -> None:
    """The next call after a tenth of a second puts it on the disk, even if it only reads."""
    state.commit(REF, RECORDED, durable=False)
    clock.advance(writer.JOIN_SECONDS - 0.01)
    state.recorded(FileRef("s", "another"))
    assert seen_outside(tmp_path / "state", COUNT_FILES) == [(0,)]

    clock.advance(0.01)
    state.recorded(FileRef("s", "another"))
    assert seen_outside(tmp_path / "state", COUNT_FILES) == [(1,)]


def test_a_durable_write_takes_the_joined_ones_along(tmp_path: Path, state: State) -> None:
    """Operations reach the disk in the order in which they were asked for."""
    before = state.commits
    state.commit(REF, RECORDED, durable=False)
    state.commit(REF, replace(RECORDED, etag="newer"))

    assert state.commits == before + 1
    assert seen_outside(tmp_path / "state", "SELECT etag FROM files") == [("newer",)]
    assert state.recorded(REF) == replace(RECORDED, etag="newer")


def test_closing_flushes(tmp_path: Path) -> None:
    """Nothing that was committed is lost by closing."""
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    state.commit(REF, RECORDED, durable=False)
    state.failures.record(Failure(REF, "e", 1, 1))
    state.close()

    assert seen_outside(tmp_path, COUNT_FILES) == [(1,)]
    assert seen_outside(tmp_path, "SELECT error FROM failures") == [("e",)]


# ---- reading beside the daemon ----------------------------------------------------------------------------


def test_reading_beside_the_daemon(tmp_path: Path, state: State) -> None:
    """Another process sees what is committed, also what is committed later, and cannot write."""
    state.commit(REF, RECORDED)
    beside = State.open_read_only(str(tmp_path / "state"))
    try:
        assert beside.instance_id == state.instance_id
        assert beside.recorded(REF) == RECORDED
        state.commit(REF, replace(RECORDED, etag="newer"))
        assert beside.recorded(REF) == replace(RECORDED, etag="newer")
        for write in (
            lambda: beside.commit(REF, RECORDED),
            lambda: beside.commit(REF, RECORDED, durable=False),
            lambda: beside.failures.record(Failure(REF, "e", 1, 1)),
            lambda: beside.add_totals(requests=1),
            lambda: beside.checkpoints.set_upload_id(1, "u"),
        ):
            with pytest.raises(StateError, match="reading only"):
                write()
        assert beside.recorded(REF) == replace(RECORDED, etag="newer")
    finally:
        beside.close()


def test_reading_where_no_daemon_ever_ran(tmp_path: Path) -> None:
    """Without a database there is nothing to read, and none is made."""
    with pytest.raises(StateError, match="no state database"):
        State.open_read_only(str(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_reading_without_the_right_to_write(tmp_path: Path) -> None:
    """A user who may only read the files can read the state of a daemon that is down."""
    if os.geteuid() != 0:
        pytest.skip("CANNOT BE TESTED HERE: becoming another user needs root")
    directory = tmp_path / "state"
    state = State.open(str(directory), now_ns=time.time_ns)
    state.commit(REF, RECORDED)
    state.close()
    for above in (tmp_path, *tmp_path.parents):  # the way to it is open to everybody
        if above == Path(tempfile.gettempdir()):
            break
        above.chmod(0o755)
    directory.chmod(0o555)
    (directory / "state.db").chmod(0o444)
    os.seteuid(65534)
    try:
        beside = State.open_read_only(str(directory))
        told = beside.recorded(REF)
        beside.close()
    finally:
        os.seteuid(0)

    assert told == RECORDED
    assert sorted(path.name for path in directory.iterdir()) == ["instance", "state.db", "under-way"]


def test_a_closed_state_says_so(tmp_path: Path) -> None:
    """After closing every call is a StateError, not one of another library."""
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    state.close()

    with pytest.raises(StateError):
        state.recorded(REF)
    with pytest.raises(StateError, match="closed"):
        state.commit(REF, RECORDED)


def test_a_pause_is_remembered_until_its_end(tmp_path: Path, clock: FakeClock) -> None:
    """By kind and name; one without an end stays until it is taken back, also over a restart."""
    with closing(State.open(str(tmp_path), now_ns=clock.now_ns, monotonic=clock.monotonic)) as state:
        soon_ns = clock.now_ns() + 10**9
        state.pause("source", "docs", soon_ns)
        state.pause("all", "", 0)
    with closing(State.open(str(tmp_path), now_ns=clock.now_ns, monotonic=clock.monotonic)) as state:
        assert state.pauses() == {("all", ""): 0, ("source", "docs"): soon_ns}
        clock.advance(2.0)
        assert state.pauses() == {("all", ""): 0}
        state.resume([("all", ""), ("store", "never")])
        assert state.pauses() == {}

"""What to do about one file: the truth table, row by row, and what has to hold for every row."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.model import (
    Destination,
    FileRef,
    FileStat,
    Fingerprint,
    Irregular,
    Observed,
    OnDelete,
    Recorded,
)
from syncd.core.plan import (
    Copy,
    Delete,
    Nothing,
    Refresh,
    Settling,
    Upload,
    age_ns,
    carries_prefix,
    decide,
    doubt_left_ns,
    is_racy,
    needs_fingerprint,
    owner_of,
    racy_window_ns,
    same_content,
    settling,
    too_young_ns,
)

STORE = "s3 https://here photos"
OTHER_STORE = "dir /mnt/nas"
KEY = "camera/a.jpg"
OLD_KEY = "old/a.jpg"

STAT = FileStat(device=1, inode=2, size=3, mtime_ns=4_000_000_000, ctime_ns=5_000_000_000)
TOUCHED = STAT._replace(mtime_ns=6_000_000_000)
CONTENT = Fingerprint(b"c" * 16, 3)
OTHER_CONTENT = Fingerprint(b"d" * 16, 3)
EMPTY = Fingerprint(b"e" * 16, 0)

SEEN = Observed(STAT, CONTENT)
RECORDED = Recorded(STAT, CONTENT, STORE, KEY, "etag", recorded_ns=9_000_000_000)
TWIN = replace(RECORDED, key="camera/b.jpg")
OLD = replace(RECORDED, key=OLD_KEY)
ELSEWHERE = replace(RECORDED, store_id=OTHER_STORE)

ROWS = {
    "absent, never": (None, None, None, Nothing("gone before it was uploaded")),
    "present, never": (SEEN, None, None, Upload("new")),
    "present, never, but the store has the content": (SEEN, None, TWIN, Copy(TWIN, "new")),
    "same stat": (SEEN, RECORDED, None, Nothing("unchanged")),
    "same stat, a twin is of no use": (SEEN, RECORDED, TWIN, Nothing("unchanged")),
    "same stat, recorded while racy": (
        SEEN,
        replace(RECORDED, racy=True),
        None,
        Refresh("confirmed, same content"),
    ),
    "other stat, same content": (
        Observed(TOUCHED, CONTENT),
        RECORDED,
        None,
        Refresh("touched, same content"),
    ),
    "other stat, same content by both digests": (
        Observed(TOUCHED, CONTENT, b"mine"),
        replace(RECORDED, witness=b"mine"),
        None,
        Refresh("touched, same content"),
    ),
    "other stat, content that was made to look the same": (
        Observed(TOUCHED, CONTENT, b"mine"),
        replace(RECORDED, witness=b"made"),
        None,
        Upload("content changed"),
    ),
    "present, never, and the twin was made to look the same": (
        Observed(STAT, CONTENT, b"mine"),
        None,
        replace(TWIN, witness=b"made"),
        Upload("new"),
    ),
    "other content": (Observed(TOUCHED, OTHER_CONTENT), RECORDED, None, Upload("content changed")),
    "other content, same stat": (Observed(STAT, OTHER_CONTENT), RECORDED, None, Upload("content changed")),
    "other content, which the store has": (
        Observed(TOUCHED, OTHER_CONTENT),
        RECORDED,
        replace(TWIN, fingerprint=OTHER_CONTENT),
        Copy(replace(TWIN, fingerprint=OTHER_CONTENT), "content changed"),
    ),
    "other key, same content": (SEEN, OLD, None, Copy(OLD, "destination changed")),
    "other key, other content": (Observed(STAT, OTHER_CONTENT), OLD, None, Upload("destination changed")),
    "other store": (SEEN, ELSEWHERE, None, Upload("destination changed")),
    "other store, which has the content": (SEEN, ELSEWHERE, TWIN, Copy(TWIN, "destination changed")),
    "irregular, never": (Irregular("fifo"), None, None, Nothing("not a regular file")),
    "link, recorded": (Irregular("symbolic link"), RECORDED, None, Nothing("not a regular file")),
    "fifo, recorded": (Irregular("fifo"), RECORDED, None, Nothing("not a regular file")),
    "device, recorded": (Irregular("device"), RECORDED, None, Nothing("not a regular file")),
    "directory, never": (Irregular("directory"), None, None, Nothing("not a regular file")),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("on_delete", OnDelete)
def test_truth_table(row: str, on_delete: OnDelete) -> None:
    """Every row gives its action and its reason, whatever the policy for deleted files is."""
    observed, recorded, twin, expected = ROWS[row]

    actual = decide(observed, recorded, store_id=STORE, key=KEY, on_delete=on_delete, twin=twin)

    assert expected == actual


@pytest.mark.parametrize(
    ("recorded", "on_delete", "expected"),
    [
        (RECORDED, OnDelete.KEEP, Nothing("deletes are kept")),
        (RECORDED, OnDelete.DELETE, Delete("deleted locally")),
        (OLD, OnDelete.KEEP, Nothing("deletes are kept")),
        (OLD, OnDelete.DELETE, Delete("deleted locally")),
        (ELSEWHERE, OnDelete.KEEP, Nothing("deletes are kept")),
        (ELSEWHERE, OnDelete.DELETE, Nothing("deleted locally, but recorded in another store")),
    ],
)
def test_absent_but_recorded(recorded: Recorded, on_delete: OnDelete, expected: Nothing | Delete) -> None:
    """A file that is gone is deleted only by policy, and only from the store that the policy is about.

    It is gone, too, where a directory has its name.
    """
    for observed in (None, Irregular("directory")):
        assert expected == decide(observed, recorded, store_id=STORE, key=KEY, on_delete=on_delete)


@pytest.mark.parametrize(
    "twin",
    [
        pytest.param(replace(TWIN, fingerprint=OTHER_CONTENT), id="other content"),
        pytest.param(replace(TWIN, fingerprint=CONTENT._replace(size=4)), id="other size"),
        pytest.param(replace(TWIN, store_id=OTHER_STORE), id="other store"),
        pytest.param(replace(TWIN, key=KEY), id="the very key that is to be written"),
    ],
)
def test_twin_that_is_none(twin: Recorded) -> None:
    """A twin of other content, in another store or under the same key is never copied from."""
    actual = decide(SEEN, None, store_id=STORE, key=KEY, on_delete=OnDelete.KEEP, twin=twin)

    assert Upload("new") == actual


@pytest.mark.parametrize("recorded", [replace(RECORDED, fingerprint=OTHER_CONTENT), ELSEWHERE])
def test_an_object_is_not_copied_onto_itself(recorded: Recorded) -> None:
    """Whatever is recorded: where the twin lies under the file's own key, the content is sent."""
    twin = replace(TWIN, key=KEY)

    actual = decide(SEEN, recorded, store_id=STORE, key=KEY, on_delete=OnDelete.KEEP, twin=twin)

    assert isinstance(actual, Upload)


def test_empty_files_are_nobodys_twin() -> None:
    """An empty file is uploaded: there is no byte to save."""
    seen = Observed(STAT._replace(size=0), EMPTY)
    twin = replace(TWIN, fingerprint=EMPTY)

    assert Upload("new") == decide(seen, None, store_id=STORE, key=KEY, on_delete=OnDelete.KEEP, twin=twin)


def test_one_byte_is_worth_a_copy() -> None:
    """Any content that has a byte is not sent twice."""
    content = CONTENT._replace(size=1)
    twin = replace(TWIN, fingerprint=content)

    actual = decide(
        Observed(STAT, content), None, store_id=STORE, key=KEY, on_delete=OnDelete.KEEP, twin=twin
    )

    assert Copy(twin, "new") == actual


@pytest.mark.parametrize(
    ("stat", "reason"),
    [
        (STAT, None),
        (STAT._replace(size=4), "size changed"),
        (STAT._replace(mtime_ns=1), "modification time changed"),
        (STAT._replace(ctime_ns=1), "change time moved"),
        (STAT._replace(inode=7), "another file is in its place"),
        (STAT._replace(device=7), "another file is in its place"),
        (STAT._replace(inode=7, ctime_ns=1), "another file is in its place"),
        (STAT._replace(size=4, mtime_ns=1, inode=7), "size changed"),
    ],
)
def test_any_stat_field_asks_for_a_look(stat: FileStat, reason: str | None) -> None:
    """Device, inode, size, mtime and ctime must all be equal, or the content is read; older counts too."""
    assert reason == needs_fingerprint(stat, RECORDED, event=False)


@pytest.mark.parametrize(
    ("recorded", "event", "reason"),
    [
        (None, False, "new"),
        (None, True, "new"),
        (RECORDED, True, "marked since it was recorded"),
        (replace(RECORDED, racy=True), False, "recorded too soon after a change to be sure"),
        (replace(RECORDED, racy=True), True, "recorded too soon after a change to be sure"),
    ],
)
def test_equal_stat_is_not_always_proof(recorded: Recorded | None, event: bool, reason: str) -> None:
    """Never recorded, racy when recorded, or marked by an event since: the content is read."""
    assert reason == needs_fingerprint(STAT, recorded, event=event)


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "expected"),
    [
        (50 * SECOND, 50 * SECOND, False),
        (98 * SECOND, 98 * SECOND, False),
        (98 * SECOND + 1, 50 * SECOND, True),
        (50 * SECOND, 98 * SECOND + 1, True),
        (100 * SECOND, 100 * SECOND, True),
        (101 * SECOND, 50 * SECOND, True),
        (50 * SECOND, 10**6 * SECOND, True),
        (102 * SECOND, 50 * SECOND, True),
        (102 * SECOND + 1, 50 * SECOND, False),
        (10**6 * SECOND, 50 * SECOND, False),
    ],
)
def test_racy(mtime_ns: int, ctime_ns: int, expected: bool) -> None:
    """A stat is racy while a time is less than the window away, and when it changed in the future."""
    stat = STAT._replace(mtime_ns=mtime_ns, ctime_ns=ctime_ns)

    assert expected == is_racy(stat, 100 * SECOND)


@pytest.mark.parametrize(
    ("mtime", "ctime", "expected"),
    [
        (90, 95, 5), (95, 90, 5), (100, 100, 0), (90, 160, -60), (90, 161, 10), (10**6, 90, 10),
        (10**6, 10**6, None),
    ],
)  # fmt: skip
def test_the_age_of_a_file(mtime: int, ctime: int, expected: int | None) -> None:
    """The later time counts, unless it is more than a minute ahead: then a clock was set, or the time was."""
    stat = STAT._replace(mtime_ns=mtime * SECOND, ctime_ns=ctime * SECOND)

    assert age_ns(stat, 100 * SECOND) == (None if expected is None else expected * SECOND)


@pytest.mark.parametrize(
    ("age", "settle", "is_open", "wait"),
    [
        # It changed less than its settle period ago: for what is left of that.
        (0.0, 8.0, False, 8.0),
        (2.5, 8.0, False, 5.5),
        (2.5, 8.0, None, 5.5),
        (2.5, 8.0, True, 5.5),
        (-5.0, 8.0, False, 13.0),  # the clock of a file server
        (7.999, 8.0, False, 0.001),
        (8.0, 8.0, False, 0.0),
        (599.0, 600.0, False, 1.0),
        # It is open for writing: for a minute, looked at ever more rarely.
        (2.0, 2.0, True, 2.0),
        (3.0, 2.0, True, 3.0),
        (32.0, 2.0, True, 28.0),
        (59.0, 2.0, True, 1.0),
        (60.0, 2.0, True, 0.0),
        (3600.0, 2.0, True, 0.0),
        # It is not, or that is not known.
        (2.0, 2.0, False, 0.0),
        (2.0, 2.0, None, 0.0),
        # It changed in the future, or the operator wants no waiting.
        (-3600.0, 8.0, True, 0.0),
        (0.0, 0.0, True, 0.0),
        (0.0, 0.0, False, 0.0),
    ],
)
def test_settling(age: float, settle: float, is_open: bool | None, wait: float) -> None:
    """Whether a file is read now, and else after how long to look at it again."""
    now_ns = 10**18
    stat = STAT._replace(mtime_ns=0, ctime_ns=now_ns - round(age * SECOND))
    found = settling(stat, now_ns, settle_ns=round(settle * SECOND), is_open=is_open)

    assert (found.look_again_ns if found is not None else 0) == round(wait * SECOND)
    assert found is None or found.reason


@pytest.mark.parametrize(
    ("rests", "is_open", "overdue", "prefix"),
    [
        (True, False, False, False),
        (True, True, False, True),
        (True, True, True, True),
        (True, False, True, False),
        (False, False, False, None),
        (False, True, False, None),
        (False, False, True, True),
        (False, True, True, True),
        (False, None, True, True),
    ],
)
def test_a_growing_file_is_cut_while_it_may_hold_half_a_line(
    rests: bool, is_open: bool | None, overdue: bool, prefix: bool | None
) -> None:
    """It is whole when it rests and no program has it open; while it does not rest it waits until overdue."""
    found = None if rests else Settling("it changed", 1)
    assert carries_prefix(found, 10 * SECOND, is_open=is_open, overdue=overdue) is prefix


@pytest.mark.parametrize(("age", "prefix"), [(59, True), (60, False), (None, False)])
def test_where_nobody_knows_who_has_it_open_a_minute_of_rest_has_to_do(age: int | None, prefix: bool) -> None:
    """As on a file system of the network: half a line that never ends must reach the store, too."""
    age_ns = None if age is None else age * SECOND
    assert carries_prefix(None, age_ns, is_open=None, overdue=False) is prefix


@pytest.mark.parametrize(
    ("is_open", "age", "expected"),
    [
        (False, 1.9, True), (False, 2.0, False), (None, 2.0, True), (None, 59.0, True), (None, 60.0, False),
        (True, 60.0, True), (True, 86399.0, True), (True, 86400.0, False),
    ],
)  # fmt: skip
def test_what_may_be_open_proves_less(is_open: bool | None, age: float, expected: bool) -> None:
    """A stat proves nothing for two seconds; a minute, where it is not known; a day, if the file is open."""
    now_ns = 10**18
    then_ns = now_ns - round(age * SECOND)
    stat = STAT._replace(mtime_ns=then_ns, ctime_ns=then_ns)

    assert is_racy(stat, now_ns, racy_window_ns(is_open=is_open)) == expected


def test_racy_window_is_an_argument() -> None:
    """File systems with two-second timestamps get a wider window."""
    stat = STAT._replace(mtime_ns=97 * SECOND, ctime_ns=97 * SECOND)

    assert not is_racy(stat, 100 * SECOND)
    assert is_racy(stat, 100 * SECOND, 4 * SECOND)


# ---- properties -------------------------------------------------------------------------------------------

small = st.integers(min_value=0, max_value=2)
fingerprints = st.builds(Fingerprint, digest=st.sampled_from([b"a" * 16, b"b" * 16]), size=small)
stats = st.builds(FileStat, device=small, inode=small, size=small, mtime_ns=small, ctime_ns=small)
observations = st.builds(Observed, stat=stats, fingerprint=fingerprints)
records = st.builds(
    Recorded,
    stat=stats,
    fingerprint=fingerprints,
    store_id=st.sampled_from([STORE, OTHER_STORE]),
    key=st.sampled_from([KEY, OLD_KEY]),
    etag=st.just("etag"),
    recorded_ns=small,
    racy=st.booleans(),
)
DIRECTORY = Irregular("directory")
anything = st.one_of(st.none(), observations, st.sampled_from([DIRECTORY, Irregular("fifo")]))


def _commit(observed: Observed, *, racy: bool) -> Recorded:
    """The row that carrying or refreshing this observation leaves behind."""
    return Recorded(observed.stat, observed.fingerprint, STORE, KEY, "etag", recorded_ns=0, racy=racy)


@settings(deadline=None)
@given(observed=observations, recorded=st.none() | records, twin=st.none() | records)
def test_a_commit_leaves_nothing_to_do(
    observed: Observed, recorded: Recorded | None, twin: Recorded | None
) -> None:
    """Planning the state that a commit leaves behind yields Nothing, and the file is not read for it."""
    first = decide(observed, recorded, store_id=STORE, key=KEY, on_delete=OnDelete.DELETE, twin=twin)
    after = recorded if isinstance(first, Nothing) else _commit(observed, racy=False)
    assert after is not None

    second = decide(observed, after, store_id=STORE, key=KEY, on_delete=OnDelete.DELETE, twin=twin)

    assert Nothing("unchanged") == second
    assert needs_fingerprint(observed.stat, after, event=False) is None


@settings(deadline=None)
@given(observed=observations, twin=st.none() | records)
def test_a_racy_commit_is_confirmed_once(observed: Observed, twin: Recorded | None) -> None:
    """A row recorded while racy is refreshed, never sent again, and then there is nothing to do."""
    racy = _commit(observed, racy=True)

    assert needs_fingerprint(observed.stat, racy, event=False) is not None
    assert Refresh("confirmed, same content") == decide(
        observed, racy, store_id=STORE, key=KEY, on_delete=OnDelete.DELETE, twin=twin
    )
    assert needs_fingerprint(observed.stat, _commit(observed, racy=False), event=False) is None


@settings(deadline=None)
@given(
    observed=anything,
    recorded=st.none() | records,
    twin=st.none() | records,
    on_delete=st.sampled_from(OnDelete),
)
def test_no_action_without_its_evidence(
    observed: Observed | Irregular | None,
    recorded: Recorded | None,
    twin: Recorded | None,
    on_delete: OnDelete,
) -> None:
    """Delete needs absence, a record here and the policy; Copy needs the same bytes here under another key;
    Refresh needs the recorded bytes at the recorded place; and every action has a reason."""
    action = decide(observed, recorded, store_id=STORE, key=KEY, on_delete=on_delete, twin=twin)

    assert action.reason
    match action:
        case Delete():
            assert observed in (None, DIRECTORY)
            assert recorded is not None
            assert recorded.store_id == STORE
            assert on_delete is OnDelete.DELETE
        case Copy():
            assert isinstance(observed, Observed)
            assert (observed.fingerprint, STORE) == (action.twin.fingerprint, action.twin.store_id)
            assert action.twin.key != KEY
            assert action.twin in (recorded, twin)
        case Refresh():
            assert isinstance(observed, Observed)
            assert recorded is not None
            assert (observed.fingerprint, STORE, KEY) == (
                recorded.fingerprint,
                recorded.store_id,
                recorded.key,
            )
        case Upload():
            assert isinstance(observed, Observed)
            assert (
                recorded is None
                or observed.fingerprint != recorded.fingerprint
                or recorded.key != KEY
                or (recorded.store_id != STORE)
            )
        case Nothing():
            assert not isinstance(observed, Observed) or (
                recorded is not None and recorded.fingerprint == observed.fingerprint
            )


@settings(deadline=None)
@given(stat=stats, recorded=records, event=st.booleans())
def test_skipping_needs_every_condition(stat: FileStat, recorded: Recorded, event: bool) -> None:
    """The content goes unread only if the whole stat is equal, the record was not racy and no event came."""
    skipped = needs_fingerprint(stat, recorded, event=event) is None

    assert (stat == recorded.stat and not recorded.racy and not event) == skipped


@pytest.mark.parametrize(
    ("etag", "after_ns", "left_ns"),
    [("etag", 0, 0), ("", 0, 100), ("", 60, 40), ("", 100, 0), ("", 1000, 0), ("", -1, 0)],
)
def test_doubt_ends_when_a_late_effect_cannot_come_any_more(etag: str, after_ns: int, left_ns: int) -> None:
    """It counts from the request; a clock that was put back does not prolong it without end."""
    recorded = Recorded(STAT, CONTENT, STORE, KEY, etag, recorded_ns=10_000)
    assert doubt_left_ns(recorded, 10_000 + after_ns, window_ns=100) == left_ns
    assert doubt_left_ns(None, 10_000, window_ns=100) == 0


DESTINATIONS = [Destination("camera", STORE, "camera/"), Destination("all", OTHER_STORE, "")]


@pytest.mark.parametrize(
    ("key", "store", "owner"),
    [
        ("camera/a.jpg", STORE, FileRef("camera", "a.jpg")),
        ("camera/d/a.jpg", STORE, FileRef("camera", "d/a.jpg")),
        ("camera", STORE, None),
        ("camera/", STORE, None),
        ("cameras/a.jpg", STORE, None),
        ("camera/a.jpg", OTHER_STORE, FileRef("all", "camera/a.jpg")),
        ("a.jpg", "s3 https://else photos", None),
    ],
)
def test_a_key_belongs_to_the_file_that_goes_there_now(key: str, store: str, owner: FileRef | None) -> None:
    """By store and prefix; whether that file exists does not matter."""
    assert owner_of(key, store, DESTINATIONS) == owner


@pytest.mark.parametrize(
    ("other", "witnesses", "expected"),
    [
        (CONTENT, (b"w", b"w"), True),
        (CONTENT, (b"w", b"v"), False),
        (CONTENT, (b"w", b""), True),
        (CONTENT, (b"", b"v"), True),
        (CONTENT, (b"", b""), True),
        (OTHER_CONTENT, (b"w", b"w"), False),
        (OTHER_CONTENT, (b"", b""), False),
    ],
)
def test_the_same_content(other: Fingerprint, witnesses: tuple[bytes, bytes], expected: bool) -> None:
    """By both digests; the public one alone where a witness is not known."""
    assert same_content(CONTENT, witnesses[0], other, witnesses[1]) is expected
    assert same_content(other, witnesses[1], CONTENT, witnesses[0]) is expected


@pytest.mark.parametrize(
    ("mtime", "ctime", "left"),
    [(0, 0, 40), (-60, 0, 0), (0, -60, 40), (30, 0, 70), (3600, -10, 30), (3600, 3600, 0)],
)
def test_a_file_waits_until_it_is_old_enough(mtime: int, ctime: int, left: int) -> None:
    """By its modification time; a time in the future says nothing, and two of them are not waited for."""
    now, second = 10**18, 10**9
    stat = FileStat(1, 2, 3, now + mtime * second, now + ctime * second)
    assert too_young_ns(stat, now, 40 * second) == left * second
    assert too_young_ns(stat, now, 0) == 0

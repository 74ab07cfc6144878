"""How a file is cut, and whether and where an upload resumes: tables of the edges, properties of the rest."""

from __future__ import annotations

import hashlib
import zlib
from types import MappingProxyType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.errors import StoreRefused
from syncd.core.model import Checkpoint, FileRef, FileStat, Fingerprint, Part
from syncd.core.parts import (
    CHUNK,
    Resume,
    Span,
    StoreLimits,
    combine_crc32,
    count,
    cut,
    etag_of,
    fits_one_request,
    misfit,
    moved,
    part_size_for,
    part_sizes_after_refusal,
    resume,
    span,
)

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

S3 = StoreLimits(
    min_part_size=5 * MIB,
    max_part_size=5 * GIB,
    max_parts=10_000,
    max_put_size=5 * GIB,
    max_object_size=5 * TIB,
)
TINY = StoreLimits(
    min_part_size=2,
    max_part_size=8,
    max_parts=5,
    max_put_size=6,
    max_object_size=1000,
    part_size_multiple=2,
)

# ---- cutting ----------------------------------------------------------------------------------------------


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(CHUNK.pack(piece.ljust(16, b"."), len(piece)) for piece in pieces)


a_piece = st.sampled_from([b"a", b"bb", b"ccc", b"dddd", b"eeeee", b"0000"])
some_pieces = st.lists(a_piece, max_size=24)


@given(before=some_pieces, now=some_pieces, part_size=st.integers(1, 9))
def test_what_moved_is_found_where_it_is(before: list[bytes], now: list[bytes], part_size: int) -> None:
    """Every part that is found has its bytes at that offset of the last version."""
    old, new = b"".join(before), b"".join(now)
    places = moved(chunked(before), chunked(now), len(new), part_size)
    for number, offset in places.items():
        wanted = span(number, len(new), part_size)
        content = new[wanted.offset : wanted.offset + wanted.size]
        assert old[offset : offset + wanted.size] == content


@given(pieces=st.lists(a_piece, min_size=1), at=st.integers(0, 40), part_size=st.integers(1, 9))
def test_what_moved_is_found_as_a_whole(pieces: list[bytes], at: int, part_size: int) -> None:
    """Behind an insertion every part is found, also if the content repeats itself, and before it too."""
    at = min(at, len(pieces))
    pieces = [b"%d" % number + piece for number, piece in enumerate(pieces)]  # no two are alike
    ahead, size = len(b"".join(pieces[:at])), len(b"".join(pieces)) + 3
    places = moved(chunked(pieces), chunked([*pieces[:at], b"new", *pieces[at:]]), size, part_size)
    for wanted in cut(size, part_size):
        is_whole = wanted.offset + wanted.size <= ahead or wanted.offset >= ahead + 3
        expected = wanted.offset if wanted.offset < ahead else wanted.offset - 3
        assert places.get(wanted.number) == (expected if is_whole else None)


def test_what_repeats_itself_goes_on_where_it_was() -> None:
    """Zeros lie in many places; those that come next in the last version count."""
    zeros, parts_of = [b"0000"] * 3, [b"aaaa", *[b"0000"] * 3, b"bbbb", *[b"0000"] * 3, b"cccc"]
    changed = [b"aaaa", *zeros, b"XXXX", *zeros, b"cccc"]
    assert moved(chunked(parts_of), chunked(changed), 36, 4) == {
        number: (number - 1) * 4 for number in range(1, 10) if number != 5
    }


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, True),
        (1, True),
        (8 * MIB - 1, True),
        (8 * MIB, True),
        (8 * MIB + 1, False),
        (5 * TIB, False),
    ],
)
def test_one_request_up_to_the_part_size(size: int, expected: bool) -> None:
    """A file is put whole up to and including the wanted part size; an empty one always."""
    assert expected == fits_one_request(size, 8 * MIB, S3)


@pytest.mark.parametrize(("size", "expected"), [(6, True), (7, False), (8, False)])
def test_one_request_within_the_store_s_limit(size: int, expected: bool) -> None:
    """A file above the store's largest put is not put whole, however large the wanted parts are."""
    assert expected == fits_one_request(size, 100, TINY)


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        pytest.param(1 * GIB, 8 * MIB, 8 * MIB, id="as wanted"),
        pytest.param(1 * GIB, 8 * MIB + 1, 9 * MIB, id="rounded up to the multiple"),
        pytest.param(1 * GIB, 100 * KIB, 5 * MIB, id="raised to the smallest"),
        pytest.param(1 * GIB, 6 * GIB, 5 * GIB, id="lowered to the largest"),
        pytest.param(80_000 * MIB, 8 * MIB, 8 * MIB, id="exactly 10,000 parts"),
        pytest.param(80_000 * MIB + 1, 8 * MIB, 9 * MIB, id="one byte more than 10,000 parts"),
        pytest.param(5 * TIB, 8 * MIB, 525 * MIB, id="5 TiB"),
        pytest.param(0, 8 * MIB, 8 * MIB, id="empty"),
    ],
)
def test_part_size(size: int, wanted: int, expected: int) -> None:
    """The wanted size is moved into the limits and raised, in multiples, until the part count suffices."""
    assert expected == part_size_for(size, wanted, S3)


@pytest.mark.parametrize(
    ("size", "limits", "named"),
    [
        pytest.param(5 * TIB + 1, S3, str(5 * TIB), id="above the largest object"),
        pytest.param(41, TINY, "5 parts of 8", id="above the most parts of the largest size"),
        pytest.param(
            36, replace(TINY, max_part_size=7), "5 parts of 6", id="the largest size is not a multiple"
        ),
    ],
)
def test_no_part_size_is_enough(size: int, limits: StoreLimits, named: str) -> None:
    """A file that the store can never take is refused, and the limit is named with its number."""
    with pytest.raises(StoreRefused, match=named):
        part_size_for(size, 2, limits)


def test_the_most_that_a_store_takes() -> None:
    """A file that fills every part that the store allows is still cut."""
    assert part_size_for(5 * 8, 2, TINY) == 8


def test_multiple_above_the_largest_part() -> None:
    """A store whose largest part is below the usual multiple gets parts of that size."""
    limits = replace(TINY, part_size_multiple=MIB)

    assert limits.max_part_size == part_size_for(30, 2, limits)


@pytest.mark.parametrize(
    ("size", "part_size", "expected"),
    [
        (0, 4, []),
        (1, 4, [Span(1, 0, 1)]),
        (4, 4, [Span(1, 0, 4)]),
        (5, 4, [Span(1, 0, 4), Span(2, 4, 1)]),
        (8, 4, [Span(1, 0, 4), Span(2, 4, 4)]),
        (11, 4, [Span(1, 0, 4), Span(2, 4, 4), Span(3, 8, 3)]),
    ],
)
def test_cut(size: int, part_size: int, expected: list[Span]) -> None:
    """Exact multiples have no empty last part, and an empty file has none at all."""
    assert expected == list(cut(size, part_size))
    assert len(expected) == count(size, part_size)


@pytest.mark.parametrize("number", [-1, 0, 4])
def test_no_such_part(number: int) -> None:
    """Asking for a part that the file does not have is an error, never an empty or negative span."""
    with pytest.raises(ValueError, match=f"no part {number}"):
        span(number, 11, 4)


def test_third_part_lies_where_it_does_although_the_second_is_unknown() -> None:
    """An offset comes from the number alone, so a hole before it cannot shift it."""
    assert Span(3, 2 * 5 * MIB, 1) == span(3, 10 * MIB + 1, 5 * MIB)


def _within_reach(limits: StoreLimits) -> int:
    return min(limits.max_object_size, limits.max_part_size * limits.max_parts)


sizes = st.one_of(
    st.integers(min_value=0, max_value=5 * TIB),
    st.integers(min_value=0, max_value=100 * MIB),
    st.builds(
        lambda parts, part_mib, more: max(0, min(parts * part_mib * MIB + more, 5 * TIB)),
        st.integers(min_value=0, max_value=10_001),
        st.sampled_from([5, 8, 9, 16, 64, 525]),
        st.sampled_from([-1, 0, 1]),
    ),
)


@settings(deadline=None, max_examples=60)
@given(size=sizes, wanted=st.integers(min_value=1, max_value=6 * GIB))
@example(size=5 * TIB, wanted=8 * MIB)
@example(size=10_000 * 5 * MIB, wanted=5 * MIB)
@example(size=10_000 * 5 * MIB + 1, wanted=5 * MIB)
@example(size=0, wanted=8 * MIB)
def test_parts_cover_the_file_exactly_once(size: int, wanted: int) -> None:
    """For every size up to 5 TiB the parts cover every byte exactly once, in order, within the limits."""
    part_size = part_size_for(size, wanted, S3)
    parts = list(cut(size, part_size))

    position = 0
    for number, part in enumerate(parts, start=1):
        assert Span(number, position, part.size) == part
        position += part.size
        assert 1 <= part.size <= S3.max_part_size
    assert size == position
    assert len(parts) == count(size, part_size) <= S3.max_parts
    assert all(part.size == part_size for part in parts[:-1])
    assert part_size % S3.part_size_multiple == 0
    assert S3.min_part_size <= part_size <= S3.max_part_size


limits_of_any_store = st.builds(
    lambda smallest, spread, most, multiple: StoreLimits(
        min_part_size=smallest,
        max_part_size=(smallest + spread + multiple) // multiple * multiple,
        max_parts=most,
        max_put_size=smallest + spread,
        max_object_size=1 << 30,
        part_size_multiple=multiple,
    ),
    st.integers(min_value=1, max_value=50),
    st.integers(min_value=0, max_value=500),
    st.integers(min_value=1, max_value=60),
    st.integers(min_value=1, max_value=16),
)


@settings(deadline=None)
@given(limits=limits_of_any_store, wanted=st.integers(min_value=1, max_value=1000), data=st.data())
def test_parts_stay_within_the_limits_of_any_store(
    limits: StoreLimits, wanted: int, data: st.DataObject
) -> None:
    """Whatever the limits are, what can be cut at all is cut within them and covers the file."""
    size = data.draw(st.integers(min_value=0, max_value=_within_reach(limits)))

    part_size = part_size_for(size, wanted, limits)
    parts = list(cut(size, part_size))

    assert size == sum(part.size for part in parts)
    assert len(parts) <= limits.max_parts
    assert all(limits.min_part_size <= part.size <= limits.max_part_size for part in parts[:-1])
    assert all(part.size <= limits.max_part_size for part in parts[-1:])


@pytest.mark.parametrize(
    ("refused", "expected"),
    [(100 * KIB, 5 * MIB), (MIB, 5 * MIB), (5 * MIB, 10 * MIB), (8 * MIB, 16 * MIB), (4 * GIB, 5 * GIB)],
)
def test_parts_after_a_refusal(refused: int, expected: int) -> None:
    """Parts that the store calls too small are at least doubled, to 5 MiB at least and the limit at most."""
    assert expected == part_sizes_after_refusal(refused, replace(S3, min_part_size=100 * KIB))


def test_no_larger_part_to_try() -> None:
    """When the refused size is already the largest, that is an error and not another round of the same."""
    with pytest.raises(StoreRefused, match=str(5 * GIB)):
        part_sizes_after_refusal(5 * GIB, S3)


# ---- does a checkpoint still fit? -------------------------------------------------------------------------

STORE, KEY = "s3 https://here photos", "camera/film.mov"
CONTENT = Fingerprint(b"c" * 16, 11)
DIGESTS = [b"1" * 16, b"2" * 16, b"3" * 16]
CHECKPOINT = Checkpoint(
    id=1,
    ref=FileRef("camera", "film.mov"),
    store_id=STORE,
    key=KEY,
    fingerprint=CONTENT,
    stat=FileStat(1, 2, 11, 4, 5),
    part_size=4,
    token="token",
    created_ns=0,
    upload_id="upload",
)


@pytest.mark.parametrize(
    ("checkpoint", "limits", "expected"),
    [
        pytest.param(CHECKPOINT, TINY, None, id="fits"),
        pytest.param(replace(CHECKPOINT, upload_id=None), TINY, None, id="fits, the store was not told yet"),
        pytest.param(replace(CHECKPOINT, stat=FileStat(9, 9, 9, 9, 9)), TINY, None, id="fits, only touched"),
        pytest.param(
            replace(CHECKPOINT, store_id="dir /mnt"), TINY, "it was begun in another store", id="other store"
        ),
        pytest.param(replace(CHECKPOINT, key="b"), TINY, "it was begun under another key", id="other key"),
        pytest.param(
            replace(CHECKPOINT, fingerprint=Fingerprint(b"c" * 16, 12)), TINY, "the size changed", id="size"
        ),
        pytest.param(
            replace(CHECKPOINT, fingerprint=Fingerprint(b"x" * 16, 11)),
            TINY,
            "the content changed",
            id="other content of the same size",
        ),
        pytest.param(replace(CHECKPOINT, witness=b"mine"), TINY, None, id="the same witness"),
        pytest.param(
            replace(CHECKPOINT, witness=b"made"), TINY, "the content changed", id="made to look the same"
        ),
        pytest.param(
            CHECKPOINT,
            replace(TINY, max_part_size=3),
            "its parts of 4 bytes are above the store's limit of 3",
            id="parts too large",
        ),
        pytest.param(
            CHECKPOINT,
            replace(TINY, min_part_size=5),
            "its parts of 4 bytes are below the store's limit of 5",
            id="parts too small",
        ),
        pytest.param(
            replace(CHECKPOINT, part_size=10),
            replace(TINY, min_part_size=20, max_part_size=40),
            "its parts of 10 bytes are below the store's limit of 20",
            id="two parts, the first of them too small",
        ),
        pytest.param(
            replace(CHECKPOINT, part_size=11),
            replace(TINY, min_part_size=20, max_part_size=40),
            None,
            id="a single part may be small: it is the last",
        ),
        pytest.param(
            CHECKPOINT,
            replace(TINY, min_part_size=4, max_part_size=4, max_parts=3),
            None,
            id="exactly at every limit",
        ),
        pytest.param(
            replace(CHECKPOINT, fingerprint=Fingerprint(b"", CONTENT.size), witness=b""),
            TINY,
            None,
            id="begun before the content was known",
        ),
        pytest.param(
            replace(CHECKPOINT, fingerprint=Fingerprint(b"", CONTENT.size + 1), witness=b""),
            TINY,
            "the size changed",
            id="begun before the content was known, and of another size",
        ),
        pytest.param(
            CHECKPOINT, replace(TINY, max_parts=2), "it has 3 parts, the store takes 2", id="too many parts"
        ),
    ],
)
def test_misfit(checkpoint: Checkpoint, limits: StoreLimits, expected: str | None) -> None:
    """An upload goes on only for the same store, key and content, in parts that the store takes."""
    here = {"store_id": STORE, "key": KEY, "fingerprint": CONTENT, "witness": b"mine"}
    assert expected == misfit(checkpoint, **here, limits=limits)  # type: ignore[arg-type]


# ---- where an upload goes on ------------------------------------------------------------------------------

SIZES = [4, 4, 3]
SENT = [Part(n, SIZES[n - 1], f"etag{n}", digest=DIGESTS[n - 1], crc32=n) for n in (1, 2, 3)]
LISTED = [Part(part.number, part.size, part.etag) for part in SENT]
SPANS = list(cut(11, 4))


def _with_parts(*parts: Part) -> Checkpoint:
    return replace(CHECKPOINT, parts=MappingProxyType({part.number: part for part in parts}))


def test_everything_is_there() -> None:
    """What is listed as recorded is kept, with the record's digest and CRC, and nothing is to be sent."""
    assert Resume(tuple(SENT), (), (), ()) == resume(_with_parts(*SENT), LISTED, DIGESTS)


def test_nothing_is_there() -> None:
    """Without parts here and there, all are missing, in order, and there is nothing to remark."""
    assert Resume((), (), tuple(SPANS), ()) == resume(CHECKPOINT, [], DIGESTS)


def test_parts_one_and_three_without_two() -> None:
    """A hole in the list is what is missing; the parts around it stay where they are."""
    expected = Resume((SENT[0], SENT[2]), (), (SPANS[1],), ())

    assert expected == resume(_with_parts(SENT[0], SENT[2]), [LISTED[2], LISTED[0]], DIGESTS)


def test_listed_but_never_recorded() -> None:
    """A part whose acknowledgement we did not live to record is unproven: neither kept nor missing."""
    expected = Resume((SENT[0],), (LISTED[1],), (SPANS[2],), ())

    assert expected == resume(_with_parts(SENT[0]), LISTED[:2], DIGESTS)


def test_listed_with_another_etag() -> None:
    """A part that was sent again is unproven until that is recorded: the old record says nothing about it."""
    again = replace(LISTED[1], etag="other")

    actual = resume(_with_parts(SENT[1]), [again], DIGESTS)

    assert Resume((), (again,), (SPANS[0], SPANS[2]), ()) == actual


def test_recorded_without_a_digest() -> None:
    """A record that does not say which bytes were sent proves no more than none."""
    record = replace(SENT[0], digest=None)
    expected = Resume((), (LISTED[0],), tuple(SPANS[1:]), ())

    assert expected == resume(_with_parts(record), LISTED[:1], DIGESTS)


@pytest.mark.parametrize(
    ("records", "listed", "digests", "note"),
    [
        pytest.param(
            SENT[1:2], [], DIGESTS, "acknowledged, but no longer listed: part 2", id="the store lost it"
        ),
        pytest.param(
            SENT[1:2],
            [replace(LISTED[1], size=3)],
            DIGESTS,
            "listed in another size: part 2",
            id="another size",
        ),
        pytest.param(
            [], [replace(LISTED[1], size=3)], DIGESTS, "listed in another size: part 2", id="and not recorded"
        ),
        pytest.param(
            SENT[1:2],
            LISTED[1:2],
            [DIGESTS[0], b"x" * 16, DIGESTS[2]],
            "the local bytes are not those that were sent: part 2",
            id="local bytes changed",
        ),
        pytest.param(
            SENT[1:2],
            [LISTED[1], replace(LISTED[1], etag="other")],
            DIGESTS,
            "listed twice, and not the same: part 2",
            id="contradictory list",
        ),
    ],
)
def test_claims_that_do_not_hold(
    records: list[Part], listed: list[Part], digests: list[bytes], note: str
) -> None:
    """A part that is not as recorded, or not what the file now holds, is sent again, and it is said."""
    actual = resume(_with_parts(*records), listed, digests)

    assert tuple(SPANS) == actual.missing
    assert (actual.kept, actual.unproven) == ((), ())
    assert note in actual.notes


def test_listed_twice_alike() -> None:
    """A page that repeats a part (markers go wrong) does no harm."""
    expected = Resume((SENT[0],), (), tuple(SPANS[1:]), ())

    assert expected == resume(_with_parts(SENT[0]), [LISTED[0], LISTED[0]], DIGESTS)


def test_listed_but_not_of_this_file() -> None:
    """Numbers that the file does not have are passed over, and named."""
    strangers = [Part(0, 4, "a"), Part(4, 4, "b"), Part(10_000, 4, "c")]

    actual = resume(_with_parts(*SENT), [*strangers, *LISTED], DIGESTS)

    assert Resume(tuple(SENT), (), (), ("listed, but no part of this file: part 0, 4, 10000",)) == actual


def test_digests_must_be_those_of_the_parts() -> None:
    """Digests on another grid are a bug of the caller and never silently compared."""
    with pytest.raises(ValueError, match="2 digests for 3 parts"):
        resume(CHECKPOINT, [], DIGESTS[:2])


def test_notes_stay_short() -> None:
    """Ten thousand lost parts make one line of runs, cut off, not ten thousand lines."""
    size = 10_000
    digests = [b"d" * 16] * size
    lost = [Part(n, 1, "etag", digest=digests[0]) for n in range(1, size + 1) if n % 2 or n < 10]
    checkpoint = replace(_with_parts(*lost), fingerprint=Fingerprint(b"c" * 16, size), part_size=1)

    actual = resume(checkpoint, [], digests)

    assert actual.notes == (
        "acknowledged, but no longer listed: part 1-9, 11, 13, 15, 17, 19, 21, 23 and 4988 more",
    )


part_claims = st.lists(
    st.builds(
        Part,
        number=st.integers(min_value=-1, max_value=14),
        size=st.sampled_from([1, 3, 4]),
        etag=st.sampled_from(["right", "wrong"]),
    ),
    max_size=30,
)
part_records = st.lists(
    st.builds(
        Part,
        number=st.integers(min_value=1, max_value=12),
        size=st.just(4),
        etag=st.sampled_from(["right", "wrong"]),
        digest=st.sampled_from([None, b"right", b"wrong"]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(size=st.integers(min_value=0, max_value=48), listed=part_claims, records=part_records)
def test_resume_sorts_every_part_once(size: int, listed: list[Part], records: list[Part]) -> None:
    """Whatever is claimed, every part is in exactly one of the three, ascending, and nothing is kept
    without a record whose ETag is the listed one and whose digest is that of the local bytes."""
    checkpoint = replace(_with_parts(*records), fingerprint=Fingerprint(b"c" * 16, size))
    total = count(size, 4)

    actual = resume(checkpoint, listed, [b"right"] * total)

    groups = [[part.number for part in group] for group in (actual.kept, actual.unproven, actual.missing)]
    assert all(sorted(group) == group for group in groups)
    assert list(range(1, total + 1)) == sorted(number for group in groups for number in group)
    assert all(span(part.number, size, 4) == part for part in actual.missing)
    for part in (*actual.kept, *actual.unproven):
        assert Part(part.number, part.size, part.etag) in listed
        assert span(part.number, size, 4).size == part.size
    for part in actual.kept:
        record = checkpoint.parts[part.number]
        assert (record.etag, record.digest, b"right") == (part.etag, part.digest, part.digest)
    for part in actual.unproven:
        record = checkpoint.parts.get(part.number)
        assert record is None or record.digest is None or record.etag != part.etag


@settings(deadline=None)
@given(content=st.binary(min_size=1, max_size=60), part_size=st.integers(1, 9), data=st.data())
def test_any_subset_of_acknowledged_parts_resumes_to_the_same_object(
    content: bytes, part_size: int, data: st.DataObject
) -> None:
    """Whichever parts the store has, and whichever of these we recorded, keeping the kept, proving or
    resending the unproven and sending the missing gives the same object, byte for byte."""
    pieces = {
        part.number: content[part.offset : part.offset + part.size] for part in cut(len(content), part_size)
    }
    arrived = data.draw(st.sets(st.sampled_from(sorted(pieces))))
    recorded = data.draw(st.sets(st.sampled_from(sorted(pieces))))
    server = {number: pieces[number] for number in arrived}
    records = [
        Part(number, len(pieces[number]), f"etag of {pieces[number]!r}", digest=pieces[number])
        for number in recorded
    ]
    checkpoint = replace(
        _with_parts(*records), fingerprint=Fingerprint(b"c" * 16, len(content)), part_size=part_size
    )
    listed = [Part(number, len(body), f"etag of {body!r}") for number, body in server.items()]

    actual = resume(checkpoint, listed, [pieces[number] for number in sorted(pieces)])
    for missing in actual.missing:
        server[missing.number] = content[missing.offset : missing.offset + missing.size]

    assert content == b"".join(server[number] for number in sorted(server))
    assert arrived & recorded == {part.number for part in actual.kept}
    assert arrived - recorded == {part.number for part in actual.unproven}


# ---- CRC-32 of the whole ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=200), max_size=12))
def test_combined_crc_is_that_of_the_whole(pieces: list[bytes]) -> None:
    """The CRC-32 combined from those of the parts, empty ones too, is zlib's of all the bytes."""
    expected = zlib.crc32(b"".join(pieces))

    assert expected == combine_crc32((zlib.crc32(piece), len(piece)) for piece in pieces)


def test_combined_crc_of_ten_thousand_parts() -> None:
    """As many parts as a store takes, all but the last of one size, combine to zlib's CRC of the whole."""
    content = bytes(range(256)) * 4096
    pieces = [content[part.offset : part.offset + part.size] for part in cut(len(content) - 7, 105)]
    assert 9_900 < len(pieces) <= 10_000

    actual = combine_crc32((zlib.crc32(piece), len(piece)) for piece in pieces)

    assert zlib.crc32(content[:-7]) == actual


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 12_345_678])
def test_combined_crc_of_large_parts(size: int) -> None:
    """Sizes beyond a few bytes are powers that only squaring reaches; they too agree with zlib."""
    zeros = bytes(size)
    crcs = [(zlib.crc32(b"head"), 4), (zlib.crc32(zeros), size), (zlib.crc32(b"tail"), 4)]

    assert zlib.crc32(b"tail", zlib.crc32(zeros, zlib.crc32(b"head"))) == combine_crc32(crcs)


def test_an_object_of_parts_has_the_etag_that_s3_documents() -> None:
    """The MD5 of the MD5s, and their number; of other ETags nothing is known."""
    one, two = (hashlib.md5(text).hexdigest() for text in (b"one", b"two"))
    whole = hashlib.md5(bytes.fromhex(one) + bytes.fromhex(two)).hexdigest()
    assert etag_of([one, two.upper()]) == f"{whole}-2"
    assert etag_of([]) is None
    assert etag_of([one, "opaque"]) is None

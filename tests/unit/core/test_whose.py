"""Whose an object is: what another machine wrote is neither deleted nor replaced, and ours never waits."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from syncd.core.model import FileStat, Fingerprint, ObjectInfo, Recorded
from syncd.core.plan import Verdict, before_delete, before_put, instance_id, is_belied, is_others, machine_id

OURS, OTHERS = "a" * 32, "b" * 32
OWN = frozenset({OURS, "c" * 32})
RECORDED = Fingerprint(b"r" * 16, 5)
SENT = Fingerprint(b"s" * 16, 5)
ROW = Recorded(FileStat(1, 2, 5, 3, 4), RECORDED, "store", "k", "etag", 0)
IN_DOUBT = Recorded(FileStat(1, 2, 5, 3, 4), RECORDED, "store", "k", "", 0)

IDS = {"ours": OURS, "ours by another name": "c" * 32, "other": OTHERS, "none": None}
THERE = {
    "recorded": ObjectInfo("k", 5, "etag", RECORDED.digest),
    "recorded, another ETag": ObjectInfo("k", 5, "new", RECORDED.digest),
    "recorded, no metadata": ObjectInfo("k", 5, "etag"),
    "sent": ObjectInfo("k", 5, "new", SENT.digest),
    "sent, another size": ObjectInfo("k", 6, "new", SENT.digest),
    "different": ObjectInfo("k", 5, "new", b"d" * 16),
    "no metadata": ObjectInfo("k", 5, "new"),
    "the ETag of another size": ObjectInfo("k", 6, "etag"),
    "nothing to compare": ObjectInfo("k", 5, ""),
}
SAME = {"recorded", "recorded, another ETag", "recorded, no metadata"}


def _seen(there: str, whose: str) -> ObjectInfo:
    info = THERE[there]
    return ObjectInfo(info.key, info.size, info.etag, info.digest, instance=IDS[whose])


@pytest.mark.parametrize(("there", "whose", "row"), list(product(THERE, IDS, [ROW, IN_DOUBT])))
def test_deletions(there: str, whose: str, row: Recorded) -> None:
    """The recorded object goes, of any machine; else only what a request of ours may have left."""
    same = there in SAME and (row is ROW or there != "recorded, no metadata")
    if same:
        expected = Verdict.GO
    elif whose == "other":
        expected = Verdict.WAIT
    elif whose == "none" or row is ROW:
        expected = Verdict.KEEP
    else:
        expected = Verdict.GO
    assert before_delete(_seen(there, whose), OWN, row, replaced=row.in_doubt) is expected


@pytest.mark.parametrize(("there", "whose", "row"), list(product(THERE, IDS, [ROW, None])))
def test_puts_and_copies_of_new_content(there: str, whose: str, row: Recorded | None) -> None:
    """Equal content is adopted; what is known here is replaced, and what names no writer; others wait."""
    if there == "sent":
        expected = Verdict.ADOPT
    elif whose != "other" or (row is ROW and there in SAME):
        expected = Verdict.GO
    else:
        expected = Verdict.WAIT
    assert before_put(_seen(there, whose), OWN, row, SENT) is expected


@pytest.mark.parametrize(("there", "whose"), list(product(THERE, IDS)))
def test_puts_of_the_recorded_content(there: str, whose: str) -> None:
    """Its object stays as it is, also where only the ETag shows that."""
    expected = Verdict.WAIT if whose == "other" else Verdict.GO
    expected = Verdict.ADOPT if there in SAME else expected
    assert before_put(_seen(there, whose), OWN, ROW, RECORDED) is expected


@pytest.mark.parametrize(
    ("info", "row", "proven", "expected"),
    [
        (ObjectInfo("k", 5, "e"), None, True, Verdict.ADOPT),
        (ObjectInfo("k", 5, "e"), None, False, Verdict.GO),
        (ObjectInfo("k", 6, "e"), None, True, Verdict.GO),
        (ObjectInfo("k", 5, "e"), ROW, True, Verdict.GO),
        (ObjectInfo("k", 5, "e"), IN_DOUBT, True, Verdict.ADOPT),
        (ObjectInfo("k", 5, "e", b"d" * 16), None, True, Verdict.GO),
        (ObjectInfo("k", 5, "e", instance=OTHERS), None, True, Verdict.WAIT),
    ],
)
def test_what_another_program_put_is_adopted_by_its_own_digest(
    info: ObjectInfo, row: Recorded | None, proven: bool, expected: Verdict
) -> None:
    """Only for a file without a record, and an object that says nothing better about its content."""
    assert before_put(info, OWN, row, SENT, proven=proven) is expected


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    ("there", "etag", "is_ours"),
    [
        (ObjectInfo("k", 5, "1" * 32, RECORDED.digest, md5=b"\x11" * 16, instance=OURS), "1" * 32, True),
        (ObjectInfo("k", 5, "2" * 32, RECORDED.digest, md5=b"\x22" * 16, instance=OURS), "1" * 32, False),
        (ObjectInfo("k", 6, "2" * 32, RECORDED.digest, md5=b"\x22" * 16, instance=OURS), "1" * 32, False),
        (ObjectInfo("k", 5, "2" * 32, RECORDED.digest, instance=OURS), "1" * 32, True),  # no MD5, as with KMS
        (ObjectInfo("k", 5, "2" * 32, RECORDED.digest, md5=b"\x22" * 16), "1" * 32 + "-3", True),  # of parts
        (ObjectInfo("k", 5, "2" * 32, RECORDED.digest, md5=b"\x22" * 16, instance=OURS), "", True),
    ],
)
def test_metadata_of_ours_that_another_program_kept_make_no_object_ours(
    there: ObjectInfo, etag: str, is_ours: bool, replaced: bool
) -> None:
    """s3fs and others change the content and leave the metadata; the MD5 and the size tell."""
    row = replace(ROW, etag=etag)
    assert is_belied(there, row) is not is_ours
    assert before_delete(there, OWN, row, replaced=replaced) is (Verdict.GO if is_ours else Verdict.KEEP)
    md5 = bytes.fromhex(etag) if len(etag) == 32 else None
    again = before_put(there, OWN, row, RECORDED, md5=md5)
    assert again is (Verdict.ADOPT if is_ours else Verdict.GO)
    lost = before_put(there, OWN, None, RECORDED, md5=md5)
    assert lost is (Verdict.ADOPT if is_ours else Verdict.GO)


@pytest.mark.parametrize("row", [ROW, IN_DOUBT, None])
def test_where_nothing_is_everything_may_be_put(row: Recorded | None) -> None:
    """A new key belongs to no machine."""
    assert before_put(None, OWN, row, SENT) is Verdict.GO


def test_an_object_without_an_id_is_not_anothers() -> None:
    """Those of before, and of other tools, hold nothing up."""
    assert [is_others(_seen("different", whose), OWN) for whose in IDS] == [False, False, True, False]


def test_an_id_is_of_one_source_on_one_machine_and_lasts() -> None:
    """It is the same each time, differs in each of its ingredients, and shows none of them."""
    ids = {instance_id(*parts) for parts in product(["m", "n"], ["docs", "pics"], ["/a", "/\udcff"])}
    assert len(ids) == 8
    assert instance_id("m", "docs", "/a") in ids
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3d1219c7c4c5404aaa1f6d2a48adfda4\n", "3d1219c7c4c5404aaa1f6d2a48adfda4"),
        ("3D1219C7C4C5404AAA1F6D2A48ADFDA4", "3d1219c7c4c5404aaa1f6d2a48adfda4"),
        ("", ""),
        ("uninitialized\n", ""),
        ("0" * 32, ""),
        ("3d1219c7", ""),
        ("3d1219c7c4c5404aaa1f6d2a48adfda4 x", ""),
    ],
)
def test_only_a_machine_id_that_is_set_counts(text: str, expected: str) -> None:
    """An image may hold an empty file, or systemd's word for one that is made at the first boot."""
    assert machine_id(text) == expected

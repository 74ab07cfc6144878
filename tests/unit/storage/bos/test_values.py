"""Pages of listings and values of BOS, read leniently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syncd.core.errors import (
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import ObjectInfo, Part, UploadInfo
from syncd.storage.bos import bucket as bos_bucket
from syncd.storage.bos import values as bos_values
from syncd.storage.bos.bucket import Bucket as BosBucket
from syncd.storage.http.messages import Request, Response
from syncd.storage.settings import BosSettings, HttpSettings
from tests.unit.storage.bos.bos_answers import UPLOAD, answer, bos, raised, refusal


def _listed(*numbers: int) -> list[dict[str, object]]:
    return [{"partNumber": number, "eTag": f"e{number}", "size": 10} for number in numbers]


def test_pages_of_parts_follow_is_truncated_and_not_the_marker() -> None:
    """BOS gives a next marker on the last page too."""
    request = bos().parts_request("k", UPLOAD, 0)
    assert request.query == (("uploadId", UPLOAD), ("maxParts", "1000"))
    page = {"isTruncated": True, "nextPartNumberMarker": 2, "parts": _listed(1, 2)}
    expected = ([Part(1, 10, "e1"), Part(2, 10, "e2")], 2)
    assert expected == bos().parts_result("k", UPLOAD, request, answer(200, page))
    second = bos().parts_request("k", UPLOAD, 2)
    assert ("partNumberMarker", "2") in second.query
    last = {"isTruncated": False, "nextPartNumberMarker": 3, "parts": _listed(3)}
    assert bos().parts_result("k", UPLOAD, second, answer(200, last)) == ([Part(3, 10, "e3")], None)


def test_parts_given_as_text_and_without_marker_are_read() -> None:
    """Servers of this protocol write numbers and truths as text, quote ETags, or leave the marker out."""
    request = bos().parts_request("k", UPLOAD, 0)
    page = {"isTruncated": "true", "parts": [{"partNumber": "4", "eTag": '"e4"', "size": "10"}]}
    assert bos().parts_result("k", UPLOAD, request, answer(200, page)) == ([Part(4, 10, "e4")], 4)
    empty = {"isTruncated": "false"}
    assert bos().parts_result("k", UPLOAD, request, answer(200, empty)) == ([], None)


@pytest.mark.parametrize(
    "page",
    [
        {"isTruncated": True, "nextPartNumberMarker": 2, "parts": []},
        {"isTruncated": True, "parts": []},
        {"isTruncated": False, "parts": [{"partNumber": 3, "eTag": "e"}]},
        {"isTruncated": False, "parts": [{"partNumber": "three", "eTag": "e", "size": 1}]},
    ],
)
def test_a_listing_that_leads_nowhere_is_an_error_and_not_a_loop(page: dict[str, object]) -> None:
    """A marker that does not advance, or a part without number or size, ends the listing loudly."""
    request = bos().parts_request("k", UPLOAD, 2)
    assert isinstance(raised(bos().parts_result, "k", UPLOAD, request, answer(200, page)), StoreUnavailable)


def test_parts_of_an_upload_that_is_gone() -> None:
    """NoSuchUpload, and a bare 404, mean that the upload has to begin again."""
    request = bos().parts_request("k", UPLOAD, 0)
    for response in (refusal(404, "NoSuchUpload"), answer(404)):
        assert isinstance(raised(bos().parts_result, "k", UPLOAD, request, response), UploadGone)


def test_pages_of_uploads_give_key_id_and_time() -> None:
    """Uploads outside of the prefix are left out, should the server ignore it."""
    request = bos().uploads_request("cam/", None)
    assert request.path == "/"
    assert request.query == (("uploads", ""), ("maxUploads", "1000"), ("prefix", "cam/"))
    page = {
        "isTruncated": True,
        "nextKeyMarker": "cam/b",
        "nextUploadIdMarker": "u2",
        "uploads": [
            {"key": "cam/a", "uploadId": "u1", "initiated": "2026-01-02T03:04:05Z"},
            {"key": "cam/b", "uploadId": "u2", "initiated": ""},
            {"key": "other", "uploadId": "u3"},
        ],
    }
    expected = (
        [UploadInfo("cam/a", "u1", 1_767_323_045_000_000_000), UploadInfo("cam/b", "u2")],
        ("cam/b", "u2"),
    )
    assert expected == bos().uploads_result("cam/", request, answer(200, page))
    following = bos().uploads_request("", ("cam/b", "u2"))
    assert following.query[2:] == (("keyMarker", "cam/b"), ("uploadIdMarker", "u2"))


def test_pages_of_uploads_without_marker_go_on_from_the_last() -> None:
    """Truncated without a marker: the last upload listed is the marker; the same one again is an error."""
    page = {"isTruncated": True, "uploads": [{"key": "a", "uploadId": "u1"}]}
    first = bos().uploads_request("", None)
    assert bos().uploads_result("", first, answer(200, page)) == ([UploadInfo("a", "u1")], ("a", "u1"))
    second = bos().uploads_request("", ("a", "u1"))
    assert isinstance(raised(bos().uploads_result, "", second, answer(200, page)), StoreUnavailable)
    assert bos(path_style=True).uploads_request("", None).path == "/photos"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5), ("5", 5), (0, 0), (-1, None), ("-1", None), (True, None), ("", None), ("٣", None), (1.5, None)],
)
def test_numbers_are_read_leniently_and_nothing_else(value: object, expected: int | None) -> None:
    """A number or its decimal text; anything else is None, never a guess."""
    assert expected == bos_values.number(value)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045_000_000_000),
        ("2026-01-02T03:04:05.250Z", 1_767_323_045_250_000_000),
        ("2026-01-02T11:04:05+08:00", 1_767_323_045_000_000_000),
        ("2026-01-02T03:04:05", 1_767_323_045_000_000_000),
        ("", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_are_read_leniently(text: object, ns: int | None) -> None:
    """With and without fraction and zone; what cannot be read is None."""
    assert ns == bos_values.time_ns(text)


BOS = BosBucket(BosSettings(HttpSettings("https://bj.bcebos.com"), "photos"))


def bos_objects(members: dict[str, Any], after: tuple[str, str] | None = None) -> Any:
    request = bos_bucket.objects_request(BOS, "p/", after)
    response = Response(200, {}, json.dumps(members).encode())
    return bos_values.objects_page(members, "p/", request, response)


def test_bos_is_asked_by_the_only_way_that_it_has() -> None:
    """Version 1, a thousand at a time, from behind a marker."""
    assert bos_bucket.objects_request(BOS, "", None).query == (("maxKeys", "1000"),)
    request: Request = bos_bucket.objects_request(BOS, "p/", ("marker", "p/k"))
    assert request.query == (("maxKeys", "1000"), ("prefix", "p/"), ("marker", "p/k"))


def test_bos_tells_keys_sizes_and_etags() -> None:
    """Whatever is not one of them is no object; numbers may be text."""
    members = {
        "contents": [
            {"key": "p/a", "size": 5, "eTag": "e1"},
            {"key": "p/b", "size": "6", "eTag": '"e2"'},
            {"key": "q/c", "size": 7, "eTag": "e3"},
            {"size": 7},
            "nonsense",
        ]
    }
    assert bos_objects(members) == ([ObjectInfo("p/a", 5, "e1"), ObjectInfo("p/b", 6, "e2")], None)
    assert bos_objects({}) == ([], None)


def test_bos_goes_on_behind_its_marker_or_its_last_key() -> None:
    """With ``nextMarker`` where there is one."""
    entry = {"key": "p/a", "size": 5, "eTag": "e"}
    assert bos_objects({"contents": [entry], "isTruncated": True, "nextMarker": "p/x"})[1] == (
        "marker",
        "p/x",
    )
    assert bos_objects({"contents": [entry], "isTruncated": "true"})[1] == ("marker", "p/a")


@pytest.mark.parametrize("marker", ["", "p/k", "p/\ud800"])
def test_bos_that_does_not_move_is_an_error_not_an_end(marker: str) -> None:
    """It says that there is more: a list that is cut off must not look whole."""
    with pytest.raises(StoreUnavailable):
        bos_objects({"isTruncated": True, "nextMarker": marker}, ("marker", "p/k"))

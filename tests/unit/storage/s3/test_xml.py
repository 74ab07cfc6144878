"""The XML of S3: pages of listings, and documents that no store sends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import (
    StoreUnavailable,
)
from syncd.core.model import ObjectInfo, Part, UploadInfo
from syncd.storage.http.messages import Response
from syncd.storage.s3 import xml as s3_xml
from syncd.storage.s3.bucket import Bucket as S3Bucket
from syncd.storage.s3.bucket import objects_request
from syncd.storage.s3.xml import Element, parse
from syncd.storage.settings import HttpSettings, S3Settings
from tests.unit.storage.s3.s3_wire import MULTIPART, STORE, xml


def parts_xml(numbers: list[int], rest: str = "") -> bytes:
    parts = [
        f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;e{n}&quot;</ETag><Size>{n * 10}</Size></Part>"
        for n in numbers
    ]
    return xml("ListPartsResult", "".join(parts) + rest)


PAGES = [
    ("", None),
    ("<IsTruncated>false</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>", None),
    ("<IsTruncated>true</IsTruncated><NextPartNumberMarker>7</NextPartNumberMarker>", 7),
    ("<IsTruncated>true</IsTruncated>", 2),
]


@pytest.mark.parametrize(("rest", "following"), PAGES)
def test_a_page_of_parts_says_whether_there_is_more(rest: str, following: int | None) -> None:
    """Absent IsTruncated is the last page; an absent marker is the last number."""
    request, read = MULTIPART["list parts"]
    page = read(request, Response(200, {}, parts_xml([1, 2], rest)))
    assert page == ([Part(1, 10, "e1"), Part(2, 20, "e2")], following)


def test_the_next_page_of_parts_is_asked_for_by_number() -> None:
    """And the first without any marker."""
    assert STORE.parts_request("k", "u", 0).query == (("uploadId", "u"),)
    assert STORE.parts_request("k", "u", 7).query == (("part-number-marker", "7"), ("uploadId", "u"))


@pytest.mark.parametrize("spoiled", [b"<PartNumber>x<", b"<PartNumber>-1<", b"<PartNumber><"])
def test_a_list_of_parts_that_makes_no_sense_is_no_list(spoiled: bytes) -> None:
    """Rather than a part under a wrong number."""
    request, read = MULTIPART["list parts"]
    with pytest.raises(StoreUnavailable):
        read(request, Response(200, {}, parts_xml([1]).replace(b"<PartNumber>1<", spoiled)))


def uploads_xml(keys: list[str], rest: str = "") -> bytes:
    uploads = [
        f"<Upload><Key>{key}</Key><UploadId>id{n}</UploadId>"
        "<Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>"
        for n, key in enumerate(keys)
    ]
    return xml("ListMultipartUploadsResult", "".join(uploads) + rest)


LISTINGS = {
    "declared": (["a+b%2Bc%0A"], "<EncodingType>url</EncodingType>", ["a b+c\n"]),
    "not encoded": (["a b+c%41"], "", ["a b+c%41"]),
    "not encoded, though it looks so": (["a%41"], "", ["a%41"]),
    "not encoded, and the marker shows it": (["a%41"], "<NextKeyMarker>a%41</NextKeyMarker>", ["a%41"]),
    "encoded in silence, and the marker shows it": (
        ["a", "b%20%7C*|"],
        "<NextKeyMarker>b |*|</NextKeyMarker>",
        ["a", "b |*|"],
    ),
    "a forbidden character": (["a&#x1b;b&#27;&amp;&#10;"], "", ["a\x1bb\x1b&\n"]),
    "one that is not even written as a reference": (["a\x1bb\x07"], "", ["a\x1bb\x07"]),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_keys_of_uploads_are_what_they_were(name: str) -> None:
    """Whether the server encodes them, says so, or neither."""
    keys, rest, expected = LISTINGS[name]
    request, read = MULTIPART["list uploads"]
    uploads, following = read(request, Response(200, {}, uploads_xml(keys, rest)))  # type: ignore[misc]
    assert ([upload.key for upload in uploads], following) == (expected, None)


def test_uploads_elsewhere_are_left_out() -> None:
    """A server may ignore the prefix."""
    answer = Response(200, {}, uploads_xml(["a/1", "b/2"]))
    uploads, _ = STORE.uploads_result("a/", STORE.uploads_request("a/", None), answer)
    assert uploads == [UploadInfo("a/1", "id0", 1_767_323_045 * 10**9)]


MARKERS = [
    ("<IsTruncated>false</IsTruncated><NextKeyMarker>z</NextKeyMarker>", None),
    (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>z</NextKeyMarker><NextUploadIdMarker>7</NextUploadIdMarker>",
        ("z", "7"),
    ),
    ("<IsTruncated>true</IsTruncated>", ("b", "id1")),
]


@pytest.mark.parametrize(("rest", "following"), MARKERS)
def test_a_page_of_uploads_says_whether_there_is_more(rest: str, following: tuple[str, str] | None) -> None:
    """By key and upload id together, for one key may have many uploads."""
    request, read = MULTIPART["list uploads"]
    page: Any = read(request, Response(200, {}, uploads_xml(["a", "b"], rest)))
    assert page[1] == following
    query = dict(STORE.uploads_request("p", ("z", "7")).query)
    assert (query["key-marker"], query["upload-id-marker"], query["prefix"]) == ("z", "7", "p")


ENTITIES = '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
BOMB = f'<?xml version="1.0"?><!DOCTYPE b [{ENTITIES}]><Error>&b;</Error>'.encode()
REFUSED = {
    "document type": b"<!DOCTYPE Error><Error/>",
    "entities": BOMB,
    "external entity": b'<!DOCTYPE Error [<!ENTITY x SYSTEM "file:///etc/passwd">]><Error>&x;</Error>',
    "in UTF-16": BOMB.decode().encode("utf-16"),
    "too deep": b"<a>" * 100 + b"</a>" * 100,
    "too large": b"<a>" + b"x" * (9 << 20) + b"</a>",
    "two roots": b"<a/><b/>",
    "unknown encoding": b'<?xml version="1.0" encoding="klingon"?><a/>',
    "not UTF-8": b"<a>\xff</a>",
    "unknown entity": b"<a>&nbsp;</a>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_that_no_store_sends_is_none(name: str) -> None:
    """Nothing is expanded, fetched or built without end."""
    assert s3_xml.parse(REFUSED[name]) is None


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_parser(data: bytes) -> None:
    """A document or none; never an exception."""
    s3_xml.parse(data)
    s3_xml.parse(b"<a>" + data + b"</a>")


def s3_bucket() -> S3Bucket:
    return S3Bucket(S3Settings(HttpSettings("http://127.0.0.1:9000"), "photos"))


def s3_page(content: str) -> Element:
    page = parse(f"<ListBucketResult>{content}</ListBucketResult>".encode())
    assert page is not None
    return page


def s3_entry(key: str, size: object = 5, etag: str = "&quot;e&quot;") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{etag}</ETag></Contents>"


def test_s3_is_asked_in_the_newer_way_for_keys_that_xml_can_hold() -> None:
    """Sorted as the signature wants it, with the marker of the page before."""
    bucket = s3_bucket()
    assert objects_request(bucket, "", None).query == (
        ("encoding-type", "url"),
        ("list-type", "2"),
    )
    request = objects_request(bucket, "a b/", ("continuation-token", "t/1"))
    assert request.path == "/photos"
    assert request.query == (
        ("continuation-token", "t/1"),
        ("encoding-type", "url"),
        ("list-type", "2"),
        ("prefix", "a b/"),
    )


def test_s3_tells_keys_sizes_and_etags() -> None:
    """Percent-encoded where it says so, as they are where not; without quotes."""
    encoded = s3_page("<EncodingType>url</EncodingType>" + s3_entry("p/a+b%2Bc%0A"))
    assert s3_xml.objects_page(encoded, "p/") == ([ObjectInfo("p/a b+c\n", 5, "e")], None)
    plain = s3_page(s3_entry("p/a+b%2B"))
    assert s3_xml.objects_page(plain, "p/") == ([ObjectInfo("p/a+b%2B", 5, "e")], None)


@pytest.mark.parametrize(
    ("end", "marker"),
    [
        ("", None),
        ("<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>", None),
        (
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            ("continuation-token", "t"),
        ),
        ("<IsTruncated>true</IsTruncated><Marker></Marker>", ("marker", "p/b")),
        ("<IsTruncated>TRUE</IsTruncated>", ("start-after", "p/b")),
    ],
)
def test_s3_says_where_to_go_on(end: str, marker: tuple[str, str] | None) -> None:
    """Nothing said means that was all; more without a token means behind the last key."""
    page = s3_page(s3_entry("p/a") + s3_entry("p/b") + end)
    found = s3_xml.objects_page(page, "p/")
    assert found is not None
    assert found[1] == marker


def test_s3_that_has_more_but_does_not_say_where_is_not_believed() -> None:
    """A list that stops early would look like a bucket with less in it."""
    more = "<IsTruncated>true</IsTruncated>"
    assert s3_xml.objects_page(s3_page(more), "") is None
    assert s3_xml.uploads_page(s3_page(more), "") is None


def test_s3_that_ignores_the_prefix_is_filtered() -> None:
    """What is not ours is not told."""
    page = s3_page(s3_entry("p/a") + s3_entry("q/a"))
    assert s3_xml.objects_page(page, "p/") == ([ObjectInfo("p/a", 5, "e")], None)


@pytest.mark.parametrize("entry", [s3_entry(""), s3_entry("a", "many"), s3_entry("a", -1), s3_entry("a", "")])
def test_s3_that_makes_no_sense_is_not_believed(entry: str) -> None:
    """A list with a hole in it would look like a bucket with less in it."""
    assert s3_xml.objects_page(s3_page(entry), "") is None

"""Where a BOS bucket is, and which keys it can hold."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.errors import (
    AccessRefused,
    StoreRefused,
)
from syncd.storage.base import DOUBLED, Memory
from syncd.storage.bos.bucket import LIMITS, Bucket, key_problem
from syncd.storage.settings import BosSettings, HttpSettings
from tests.unit.storage.bos.bos_answers import META, UPLOAD, bos, raised

CNAME: dict[str, Any] = {"http": HttpSettings("https://files.example.org"), "custom_domain": True}


@pytest.mark.parametrize(
    ("endpoint", "path_style", "host", "path"),
    [
        ("https://bj.bcebos.com", False, "photos.bj.bcebos.com", "/k"),
        ("https://photos.bj.bcebos.com", False, "photos.bj.bcebos.com", "/k"),
        ("https://BJ.bcebos.com", False, "photos.bj.bcebos.com", "/k"),
        ("https://bj.bcebos.com", True, "bj.bcebos.com", "/photos/k"),
        ("https://photos.bj.bcebos.com", True, "bj.bcebos.com", "/photos/k"),
        ("http://127.0.0.1:8080", False, "127.0.0.1:8080", "/photos/k"),
        ("http://[::1]:8080", False, "[::1]:8080", "/photos/k"),
        ("http://storage.example.org:8080", False, "photos.storage.example.org:8080", "/k"),
    ],
)
def test_the_bucket_is_in_the_host_unless_that_is_an_address(
    endpoint: str, path_style: bool, host: str, path: str
) -> None:
    """Virtual-host style by default; path style for IP addresses and where it is asked for."""
    request = bos(endpoint=endpoint, path_style=path_style).head_request("k")
    assert (host, path) == (request.host, request.path)


def test_a_domain_of_the_buckets_own_is_used_as_it_is() -> None:
    """The bucket goes neither into its host nor into the path; a copy still names it."""
    cname = bos(endpoint="https://files.example.org", custom_domain=True)
    request = cname.copy_request("s", "k", META, "e")
    assert (request.host, request.path) == ("files.example.org", "/k")
    assert request.headers["x-bce-copy-source"] == "/photos/s"
    assert cname.store_id == "bos://files.example.org/photos"
    cdn = bos(endpoint="https://photos.cdn.bcebos.com", custom_domain=True)
    assert cdn.head_request("k").host == "photos.cdn.bcebos.com"


def test_the_address_of_a_cdn_is_not_taken_for_a_region() -> None:
    """`cdn` is no region: without the operator's word nothing is sent there."""
    for bucket in ("photos", "other"):
        error = raised(lambda bucket=bucket: bos(endpoint=f"https://{bucket}.cdn.bcebos.com"))
        assert isinstance(error, AccessRefused)
        assert "CDN" in str(error)


def test_a_bucket_is_the_same_store_however_it_is_reached() -> None:
    """Style and scheme do not make another store; endpoint and bucket do."""
    ids = {
        bos().store_id,
        bos(path_style=True).store_id,
        bos(endpoint="http://bj.bcebos.com").store_id,
        bos(endpoint="https://photos.bj.bcebos.com").store_id,
    }
    assert ids == {"bos://bj.bcebos.com/photos"}
    assert bos(endpoint="https://gz.bcebos.com").store_id not in ids


def test_the_endpoint_of_another_bucket_is_refused() -> None:
    """An endpoint that names another bucket would send the files there."""
    error = raised(lambda: bos(endpoint="https://other.bj.bcebos.com"))
    assert isinstance(error, AccessRefused)
    assert not error.credentials
    assert "other" in str(error)


@pytest.mark.parametrize(
    "key", ["", "a/../b", "./a", "a/.", "..", "v1", "v1/x", "V1/x", "x" * 1025, "é" * 513]
)
def test_keys_that_bos_refuses_or_mixes_up_are_refused_here(key: str) -> None:
    """Dot segments, a leading v1 and more than 1024 bytes never reach the server, with the reason said."""
    assert key_problem(key)
    for call in (
        lambda: bos().put_request(key, b"", META),
        lambda: bos().head_request(key),
        lambda: bos().copy_request(key, "k", META, ""),
        lambda: bos().part_copy_request("k", UPLOAD, 1, key, 0, 1, ""),
    ):
        error = raised(call)
        assert isinstance(error, StoreRefused)
        assert not isinstance(error, AccessRefused)
        assert str(key_problem(key)) in str(error)


@pytest.mark.parametrize(
    ("settings", "path"),
    [({}, "/v1/v1/x"), ({"path_style": True}, "/v1/photos/v1/x"), (CNAME, "/v1/v1/x")],
)
def test_keys_below_v1_are_spelt_as_the_vendor_does_where_that_was_proven(
    settings: dict[str, Any], path: str
) -> None:
    """The version that BOS drops stands before the whole path; keys of other names go as ever."""
    found: dict[str, str] = {}
    wanted = {"http": HttpSettings("https://bj.bcebos.com"), "bucket": "photos", **settings}
    bucket = Bucket(BosSettings(**wanted), Memory(lambda store_id: found.get(store_id, "")))
    with pytest.raises(StoreRefused, match="syncd check --thorough"):
        bucket.object_path("v1/x")
    found[bucket.store_id] = DOUBLED
    assert bucket.object_path("v1/x") == path
    assert bucket.object_path("V1/x") == path.replace("v1/x", "V1/x")
    assert bucket.object_path("v1") == path.removesuffix("/x")
    assert bucket.object_path("v10/x") == path.removeprefix("/v1").replace("v1/x", "v10/x")
    assert bucket.copy_source("v1/x", "")["x-bce-copy-source"] == "/photos/v1/x"
    with pytest.raises(StoreRefused):
        bucket.object_path("v1/../x")


@pytest.mark.parametrize(
    "key", ["a b", "a//b", "/a", "a/", "v1.txt", "v10/x", "x" * 1024, "..a/b..", "中文+%"]
)
def test_other_keys_are_taken(key: str) -> None:
    """Odd keys that BOS stores faithfully are not refused."""
    assert key_problem(key) is None


def test_limits_satisfy_every_reading_of_the_documents() -> None:
    """Parts of 5 MiB in whole MiB, and sizes below the decimal meaning of 5 GB and 48.8 TB."""
    assert bos().limits == LIMITS
    assert LIMITS.min_part_size == 5 << 20
    assert LIMITS.part_size_multiple == 1 << 20
    assert LIMITS.max_parts == 10_000
    assert LIMITS.max_part_size == LIMITS.max_put_size <= 5 * 10**9
    assert LIMITS.max_part_size % (1 << 20) == 0
    assert LIMITS.max_object_size <= 48_800_000_000_000 <= LIMITS.max_parts * LIMITS.max_part_size


@pytest.mark.parametrize(("asked", "sent"), [(1, "819200"), (102_400, "819200"), (10**9, "838860800")])
def test_a_traffic_limit_out_of_bounds_is_brought_to_the_nearer_end(asked: int, sent: str) -> None:
    """BOS refuses values outside of 819200 to 838860800 bit/s."""
    assert bos(traffic_limit=asked).part_request("k", UPLOAD, 1, b"").headers["x-bce-traffic-limit"] == sent

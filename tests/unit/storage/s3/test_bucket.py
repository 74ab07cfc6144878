"""Where an S3 bucket is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from syncd.core.errors import (
    AccessRefused,
)
from syncd.storage.http.messages import Response
from syncd.storage.s3.signing import encode_path
from tests.unit.storage.s3.s3_wire import dialect, text

PLACES = [
    ("http://127.0.0.1:9000", {}, "127.0.0.1:9000", "/photos/k"),
    ("https://storage.example", {}, "storage.example", "/photos/k"),
    ("https://storage.example:443", {}, "storage.example", "/photos/k"),
    ("http://storage.example:443", {}, "storage.example:443", "/photos/k"),
    ("https://STORAGE.Example/", {"path_style": False}, "photos.storage.example", "/k"),
    ("http://[::1]:9000", {}, "[::1]:9000", "/photos/k"),
    ("https://s3.amazonaws.com", {}, "photos.s3.amazonaws.com", "/k"),
    ("https://s3.eu-west-1.amazonaws.com", {"path_style": True}, "s3.eu-west-1.amazonaws.com", "/photos/k"),
    ("https://s3.amazonaws.com", {"bucket": "my.photos"}, "s3.amazonaws.com", "/my.photos/k"),
    ("http://s3.amazonaws.com", {"bucket": "my.photos"}, "my.photos.s3.amazonaws.com", "/k"),
    ("https://photos.s3.amazonaws.com", {}, "photos.s3.amazonaws.com", "/k"),
    ("https://s3.bj.bcebos.com", {}, "photos.s3.bj.bcebos.com", "/k"),
    ("https://oss-cn-beijing.aliyuncs.com", {}, "photos.oss-cn-beijing.aliyuncs.com", "/k"),
    ("https://obs.cn-north-4.myhuaweicloud.com", {}, "photos.obs.cn-north-4.myhuaweicloud.com", "/k"),
    ("https://obs.eu-west-101.myhuaweicloud.eu", {}, "photos.obs.eu-west-101.myhuaweicloud.eu", "/k"),
    ("https://photos.example.org", {"path_style": False}, "photos.example.org", "/k"),
    ("https://notamazonaws.com", {}, "notamazonaws.com", "/photos/k"),
    ("https://s3.amazonaws.com", {"bucket": "Old_Photos"}, "s3.amazonaws.com", "/Old_Photos/k"),
    ("https://s3.amazonaws.com", {"bucket": "Photos"}, "s3.amazonaws.com", "/Photos/k"),
    ("https://s3.eusc-de-east-1.amazonaws.eu", {}, "photos.s3.eusc-de-east-1.amazonaws.eu", "/k"),
]


@pytest.mark.parametrize(("endpoint", "settings", "host", "path"), PLACES)
def test_an_object_has_its_address(endpoint: str, settings: dict[str, Any], host: str, path: str) -> None:
    """Path style by default, the virtual-host form where it is wanted, no port where it says nothing."""
    request = dialect(endpoint, **settings).head_request("k")
    assert (request.host, request.path) == (host, path)


@pytest.mark.parametrize(
    ("endpoint", "size"),
    [
        ("https://s3.amazonaws.com", 48.8 * 2**40),
        ("https://s3.cn-north-1.amazonaws.com.cn", 48.8 * 2**40),
        ("https://s3.oss-cn-beijing.aliyuncs.com", 48.8e12),
        ("https://cos.ap-guangzhou.myqcloud.com", 48.8e12),
        ("https://obs.cn-north-4.myhuaweicloud.com", 48.8e12),
        ("https://s3.bj.bcebos.com", 48.8e12),
        ("https://abc.r2.cloudflarestorage.com", 4.995 * 2**40),
        ("https://abc.eu.r2.cloudflarestorage.com", 4.995 * 2**40),
        ("https://minio.lan", 5 * 2**40),
        ("https://aliyuncs.com.example.org", 5 * 2**40),
    ],
)
def test_an_object_may_be_as_large_as_the_service_documents(endpoint: str, size: float) -> None:
    """A file that cannot fit is refused before its first part; one that can is not."""
    limits = dialect(endpoint).limits
    assert limits.max_object_size == int(size) <= limits.max_parts * limits.max_part_size


@pytest.mark.parametrize(
    "endpoint", ["", "s3.amazonaws.com", "ftp://a", "http://", "http://a:port", "http://[::"]
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    """It is a matter of configuration, not of keys."""
    with pytest.raises(AccessRefused) as caught:
        dialect(endpoint)
    assert not caught.value.credentials


@given(text)
def test_every_key_has_a_path_of_its_own(key: str) -> None:
    """Encoded once, byte for byte, and nothing collapsed."""
    path = dialect().head_request(key).path
    assert path.isascii()
    assert path.removeprefix("/photos/") == encode_path(key)
    assert path.count("/") == key.count("/") + 2


def test_the_identity_of_a_store_survives_what_it_learns() -> None:
    """Records refer to it; a region that the server corrects must not make it another store."""
    store = dialect("https://s3.amazonaws.com")
    before = store.store_id
    store.error(store.head_request("k"), Response(301, {"x-amz-bucket-region": "eu-west-1"}))
    assert store.store_id == before == "s3:https://s3.amazonaws.com/photos"

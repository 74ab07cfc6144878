"""Where a BOS bucket is: host, paths, limits, the keys that it can hold, and how it is listed. Pure.

Source: https://cloud.baidu.com/doc/BOS/s/Ck1rk80hn (hosts and styles).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from syncd.core.errors import RENAME, AccessRefused, StoreRefused
from syncd.storage.base import DOUBLED, Memory, StoreLimits
from syncd.storage.bos import signing
from syncd.storage.http.messages import Request
from syncd.storage.http.metadata import bare_etag
from syncd.storage.settings import BosSettings

_MIB = 1 << 20
_FIVE_GB = 5 * 10**9 // _MIB * _MIB

LIMITS = StoreLimits(
    # The documents say 100 KB in one place and 5 MB in multiples of 1 MB in another: this satisfies both.
    min_part_size=5 * _MIB,
    part_size_multiple=_MIB,
    # "5 GB" and "48.8 TB" do not say whether they count in powers of ten: the smaller reading is safe.
    max_part_size=_FIVE_GB,
    max_put_size=_FIVE_GB,
    max_object_size=488 * 10**11,
    max_parts=10_000,
    max_key_bytes=1024,
    computes_crc32=True,
    has_conditions=True,
    completes_with_meta=True,
)

PAGE = "1000"
"""The most items that one answer lists."""

_OFFICIAL = ".bcebos.com"
_VERSION = "/v1"
_DROPPED = "it may drop a leading v1/"
_NOT_PROVEN = "give the source another prefix, or run `syncd check --thorough`"
_CDN = ".cdn.bcebos.com"
_MIN_TRAFFIC_BITS, _MAX_TRAFFIC_BITS = 819_200, 838_860_800


class Bucket:
    """The address of one bucket.

    ``host`` is where its requests go, ``path`` the bucket's own path (``/`` in virtual-host style and behind
    its own domain), ``store_id`` its identity, the same for any style or scheme. `version_keys` recalls how
    it takes keys that begin with ``v1/``. Raises AccessRefused if the endpoint belongs to another bucket.
    """

    def __init__(self, settings: BosSettings, version_keys: Memory = Memory()) -> None:
        host = urlsplit(settings.http.endpoint).netloc.rpartition("@")[2].lower()
        service = host if settings.custom_domain else _service_host(host, settings.bucket)
        path_style = not settings.custom_domain and (settings.path_style or _is_address(service))
        self.name = settings.bucket
        as_given = path_style or settings.custom_domain
        self.host = service if as_given else f"{settings.bucket}.{service}"
        self.path = f"/{settings.bucket}" if path_style else "/"
        self.store_id = f"bos://{service}/{settings.bucket}"
        self._version_keys = version_keys
        self.may_refuse_path_style = path_style and service.endswith(_OFFICIAL)

    def object_path(self, key: str) -> str:
        """Return the percent-encoded path of an object. Raises StoreRefused if BOS cannot hold the key."""
        doubled = begins_with_version(key) and self._version_keys.recall(self.store_id) == DOUBLED
        problem = key_problem(key, takes_version=doubled)
        if problem is not None:
            hint = _NOT_PROVEN if problem == _DROPPED else RENAME
            raise StoreRefused(f"BOS cannot hold this key: {problem}", code="InvalidObjectName", hint=hint)
        version = _VERSION if doubled else ""
        return f"{version}{self.path.rstrip('/')}/{signing.encode(key, keep_slash=True)}"

    def copy_source(self, key: str, if_match: str) -> dict[str, str]:
        """Return the headers that name an object of this bucket as source, if its ETag is `if_match`.

        Without an ETag there is no condition.
        """
        self.object_path(key)  # refuses what cannot be a source
        headers = {"x-bce-copy-source": signing.encode(f"/{self.name}/{key}", keep_slash=True)}
        if if_match:
            headers["x-bce-copy-source-if-match"] = bare_etag(if_match)
        return headers


def key_problem(key: str, *, takes_version: bool = False) -> str | None:
    """Return why BOS cannot hold `key` faithfully; None: it can.

    The server refuses dot segments. A first segment ``v1`` is the version prefix of its old API, which its
    front ends may still drop: two keys would then be one object. The vendor's Java SDK always sends the
    prefix, so that ``v1/x`` goes as ``/v1/v1/x``; `takes_version` says that this was found to work here.
    """
    segments = key.split("/")
    if not key:
        return "it is empty"
    if len(key.encode()) > LIMITS.max_key_bytes:
        return f"it has more than {LIMITS.max_key_bytes} bytes"
    if "." in segments or ".." in segments:
        return "BOS takes no . or .. between slashes"
    if begins_with_version(key) and not takes_version:
        return _DROPPED
    return None


def begins_with_version(key: str) -> bool:
    """Return whether the key, or its first folder, is the old version prefix."""
    return key.partition("/")[0].lower() == "v1"


def traffic_headers(bytes_per_second: int) -> dict[str, str]:
    """Return the header that asks BOS to slow a request down; none for 0.

    BOS takes 819200 to 838860800 bit/s; values beyond that are brought to the nearer end.
    """
    if bytes_per_second <= 0:
        return {}
    bits = min(max(bytes_per_second * 8, _MIN_TRAFFIC_BITS), _MAX_TRAFFIC_BITS)
    return {"x-bce-traffic-limit": str(bits)}


def uploads_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListMultipartUploads below `prefix`, after the marker (key, upload id)."""
    query = [("uploads", ""), ("maxUploads", PAGE)]
    if prefix:
        query.append(("prefix", prefix))
    if after is not None:
        query += [("keyMarker", after[0]), ("uploadIdMarker", after[1])]
    return Request("GET", bucket.host, bucket.path, query=tuple(query))


def objects_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListObjects below `prefix`, after the marker (parameter, value)."""
    query = [("maxKeys", PAGE)]
    if prefix:
        query.append(("prefix", prefix))
    if after is not None:
        query.append(after)
    return Request("GET", bucket.host, bucket.path, query=tuple(query))


def _service_host(host: str, bucket: str) -> str:
    """Return the host without a bucket in front, however the endpoint is written."""
    if host.endswith(_CDN):
        raise AccessRefused(
            f"the endpoint {host} is that of a CDN",
            hint="set custom_domain: true if it takes uploads, or use the address of a region",
            credentials=False,
        )
    first, _, rest = host.partition(".")
    if not host.endswith(_OFFICIAL) or host.count(".") != 3 or first == "s3":
        return host
    if first != bucket:
        raise AccessRefused(
            f"the endpoint {host} belongs to the bucket {first}, not to {bucket}",
            hint="leave the bucket's name out of the endpoint",
            credentials=False,
        )
    return rest


def _is_address(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

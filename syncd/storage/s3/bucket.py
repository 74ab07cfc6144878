"""Where an S3 bucket is, how to list it, and how to write a checksum. Pure.

Path style puts the bucket into the path, virtual-host style into the host name. Self-hosted servers speak
path style. AWS and the large clouds want the other, with two exceptions: bucket names with dots over TLS, for
which no wildcard certificate is valid, and old names that no host can have.
"""

from __future__ import annotations

import base64
import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec.structs import replace

from syncd.core.errors import AccessRefused
from syncd.storage.base import StoreLimits
from syncd.storage.http.messages import Request
from syncd.storage.s3 import regions
from syncd.storage.s3.signing import encode_path
from syncd.storage.settings import S3Settings

LIMITS = StoreLimits(
    min_part_size=5 << 20,
    max_part_size=5 << 30,
    max_parts=10_000,
    max_put_size=5 << 30,
    max_object_size=5 << 40,
)
"""What AWS documented for long, and others follow."""

AWS_LIMITS = replace(LIMITS, max_object_size=(488 << 40) // 10, has_conditions=True)
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html and conditional-writes.html"""

LARGER_LIMITS = replace(LIMITS, max_object_size=488 * 10**11)
"""For `_LARGER_DOMAINS`, the least that they document: 48.8 TB, 48.82 TB and 48.8 TB.

Sources: https://www.alibabacloud.com/help/doc-detail/32030.htm (OSS),
https://www.tencentcloud.com/document/product/436/14113 (COS),
https://support.huaweicloud.com/en-us/devg-obs/obs_06_0028.html (OBS). BOS: `syncd.storage.bos.bucket`.
"""
_LARGER_DOMAINS = ("aliyuncs.com", "myqcloud.com", "myhuaweicloud.com", "bcebos.com")

_R2_PUT_SIZE = (4995 << 30) // 1000
R2_LIMITS = replace(
    LIMITS, max_part_size=_R2_PUT_SIZE, max_put_size=_R2_PUT_SIZE, max_object_size=(4995 << 40) // 1000
)
"""Source: https://developers.cloudflare.com/r2/platform/limits"""

_VIRTUAL_HOST_DOMAINS = (*regions.DOMAINS, *_LARGER_DOMAINS, "myhuaweicloud.eu")
"""OBS refuses path style: https://support.huaweicloud.com/api-obs/obs_errorcode_0014.html"""
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Bucket:
    """One bucket behind one endpoint.

    Only the region changes: the server may correct it. Raises AccessRefused if the endpoint makes no sense.
    """

    def __init__(self, settings: S3Settings) -> None:
        self.name = settings.bucket
        self.region = settings.region
        self._learned = False
        self.scheme, self._endpoint_host, port = _parse_endpoint(settings.http.endpoint)
        self._port = f":{port}" if port is not None else ""
        self._virtual = self._wants_virtual_host(settings.path_style)
        self.store_id = f"s3:{self.scheme}://{self._endpoint_host}{self._port}/{self.name}"
        self._root = "/" if self._virtual else f"/{encode_path(self.name)}/"
        self.is_aws = regions.is_aws(self._endpoint_host)
        """It is Amazon's service, whose checks and addresses are known."""
        self.is_r2 = regions.under(self._endpoint_host, ("r2.cloudflarestorage.com",))
        """Cloudflare's service."""
        self.limits = self._documented_limits()
        self.host = self._host()
        """The host of requests, with the port if it is not the scheme's own."""

    def _wants_virtual_host(self, path_style: bool | None) -> bool:
        if path_style is not None:
            return not path_style
        if _is_address(self._endpoint_host) or ("." in self.name and self.scheme == "https"):
            return False
        if not _HOST_LABEL.fullmatch(self.name):  # from when AWS took capitals and underscores
            return False
        return regions.under(self._endpoint_host, _VIRTUAL_HOST_DOMAINS)

    def _documented_limits(self) -> StoreLimits:
        """Return the limits of the host's service."""
        if self.is_aws:
            return AWS_LIMITS
        if self.is_r2:
            return R2_LIMITS
        return LARGER_LIMITS if regions.under(self._endpoint_host, _LARGER_DOMAINS) else LIMITS

    def _host(self) -> str:
        host = self._regional_host() + self._port
        if not self._virtual or host.startswith(f"{self.name}."):
            return host
        return f"{self.name}.{host}"

    def _regional_host(self) -> str:
        """Return the host. On AWS it follows the region, so that a body goes where the bucket is."""
        if self.is_aws and self._endpoint_host.startswith("s3.") and self._learned:
            return regions.host(self.region)
        return self._endpoint_host

    def learn(self, region: str) -> bool:
        """Remember the region that the server named; return False if it is already in use."""
        if not region or region == self.region:
            return False
        self.region = region
        self._learned = True
        self.host = self._host()
        return True

    def path(self, key: str | None = None) -> str:
        """Return the path on the wire, of the object or the bucket."""
        if key is not None:
            return self._root + encode_path(key)
        return "/" if self._virtual else self._root[:-1]

    def source(self, key: str) -> str:
        """Return the value of ``x-amz-copy-source``."""
        return f"/{encode_path(self.name)}/{encode_path(key)}"


def _parse_endpoint(endpoint: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port; None: the scheme's own port."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise AccessRefused(
            "the endpoint is not an address",
            hint="write it as http:// or https://, a host, and a port if needed",
            credentials=False,
        )
    if ":" in host:
        host = f"[{host}]"
    return parts.scheme, host, None if port == _DEFAULT_PORTS[parts.scheme] else port


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


# ---- requests and values ------------------------------------------------------------------------------


def uploads_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListMultipartUploads, one page, after the marker (key, upload id)."""
    query = [("encoding-type", "url")]
    if after is not None:
        query += [("key-marker", after[0])]
    query += [("prefix", prefix)] if prefix else []
    query += [("upload-id-marker", after[1])] if after is not None and after[1] else []
    return Request("GET", bucket.host, bucket.path(), (*query, ("uploads", "")))


def objects_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListObjectsV2, one page."""
    query = [("encoding-type", "url"), ("list-type", "2")]
    query += [("prefix", prefix)] if prefix else []
    query += [after] if after is not None else []
    return Request("GET", bucket.host, bucket.path(), tuple(sorted(query)))


def crc32_text(crc32: int) -> str:
    """Format a CRC-32 as S3 does: base64 of four big-endian bytes."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def crc32_number(text: str) -> int | None:
    """Reverse `crc32_text`; None for anything else, such as a checksum of the parts' checksums."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None

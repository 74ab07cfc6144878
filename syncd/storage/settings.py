"""The settings of each kind of store, as values."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from syncd.core.model import Concealing


class KeySettings(Concealing, frozen=True):
    """Where an account's keys come from: given, read from files, or the standard AWS chain.

    All empty means the standard chain (``s3``), or no keys (``config`` refuses that for ``bos``).
    """

    concealed: ClassVar[frozenset[str]] = frozenset({"access_key_id", "secret_access_key", "session_token"})

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    access_key_file: str = ""
    secret_key_file: str = ""
    session_token_file: str = ""


class HttpSettings(Concealing, frozen=True):
    """How to reach a store over HTTP. The proxy's address may hold a password."""

    concealed: ClassVar[frozenset[str]] = frozenset({"proxy"})

    endpoint: str
    """Scheme and host, and the port if not the scheme's own; no path."""
    proxy: str = ""
    ca_bundle: str = ""
    """File of certificates to trust; empty: the bundle of requests."""
    trust_environment: bool = False
    """Take proxy and CA bundle from HTTP(S)_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE."""
    connect_seconds: float = 30.0
    read_seconds: float = 60.0
    progress_seconds: float = 120.0
    """A request that moves no byte for this long fails."""


class S3Settings(Struct, frozen=True):
    """A bucket behind an S3-compatible endpoint."""

    http: HttpSettings
    bucket: str
    region: str = "us-east-1"
    path_style: bool | None = None
    """None: path style, except on amazonaws.com and other hosts known to want virtual hosts."""
    storage_class: str = ""
    integrity: str = "auto"
    """How the server checks a body: auto, sha256 (signed payload), md5, crc32, none (TLS only)."""
    keys: KeySettings = field(default_factory=KeySettings)
    sse: str = ""
    """How the server encrypts objects: AES256, aws:kms, aws:kms:dsse; empty: as the bucket says."""
    kms_key_id: str = ""
    acl: str = ""
    """A canned ACL for objects."""
    request_payer: bool = False
    """Whether these keys pay for requests to a bucket of another account."""
    lock_mode: str = ""
    """GOVERNANCE or COMPLIANCE: a version of an object cannot be deleted for `lock_seconds`."""
    lock_seconds: float = 0.0


class BosSettings(Struct, frozen=True):
    """A Baidu BOS bucket, by the native API."""

    http: HttpSettings
    bucket: str
    path_style: bool = False
    storage_class: str = ""
    traffic_limit: int = 0
    """The limit that a header asks of the server, bytes per second; 0: none."""
    keys: KeySettings = field(default_factory=KeySettings)
    custom_domain: bool = False
    """The endpoint is a domain of this bucket alone (CNAME)."""


class DirSettings(Struct, frozen=True):
    """A plain directory."""

    path: str
    create: bool = False
    """Create a missing directory. Otherwise it is an error: a disk may not be mounted."""


StoreSettings = S3Settings | BosSettings | DirSettings

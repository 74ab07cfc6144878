"""The settings of each kind of store, as pure values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Where an account's keys come from: given, read from files, or the standard AWS chain.

    All empty means the standard chain (``s3``) or no keys at all (refused by ``config`` for ``bos``).
    """

    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    access_key_file: str = ""
    secret_key_file: str = ""
    session_token_file: str = ""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How to reach a store over HTTP."""

    endpoint: str
    """Scheme and host, port where it is not the scheme's own; no path."""
    proxy: str = field(default="", repr=False)  # may hold a password
    ca_bundle: str = ""
    """File of certificates to trust; empty: those that come with requests."""
    trust_environment: bool = False
    """Take proxy and CA bundle from HTTP(S)_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE."""
    connect_seconds: float = 30.0
    read_seconds: float = 60.0
    progress_seconds: float = 120.0
    """A request that moves no byte for this long fails."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A bucket behind an S3-compatible endpoint."""

    http: HttpSettings
    bucket: str
    region: str = "us-east-1"
    path_style: bool | None = None
    """None: path style, except on amazonaws.com and other hosts known to want the virtual-host form."""
    storage_class: str = ""
    integrity: str = "auto"
    """How the server checks a body: auto, sha256 (signed payload), md5, crc32, none (TLS only)."""
    keys: KeySettings = field(default_factory=KeySettings)
    sse: str = ""
    """How the server encrypts objects: AES256, aws:kms, aws:kms:dsse; empty: as the bucket does."""
    kms_key_id: str = ""
    acl: str = ""
    """A canned ACL for objects."""
    request_payer: bool = False
    """Whether these keys pay for requests to a bucket of another account."""
    lock_mode: str = ""
    """GOVERNANCE or COMPLIANCE: a version of an object cannot be deleted for `lock_seconds`."""
    lock_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BosSettings:
    """A Baidu BOS bucket, by the native API."""

    http: HttpSettings
    bucket: str
    path_style: bool = False
    storage_class: str = ""
    traffic_limit: int = 0
    """Bytes per second asked of the server by header; 0: none."""
    keys: KeySettings = field(default_factory=KeySettings)
    custom_domain: bool = False
    """The endpoint is a domain of this bucket alone (CNAME)."""


@dataclass(frozen=True, slots=True)
class DirSettings:
    """A plain directory."""

    path: str
    create: bool = False
    """Create a missing directory; otherwise it is an error, because a disk may not be mounted."""


StoreSettings = S3Settings | BosSettings | DirSettings

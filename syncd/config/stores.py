"""The types of store: the keys of each, their rules, and the settings that they make.

The rules check that the files that a store names (keys, certificates) are readable, not their content. To add
a type, write its entry and add it to `STORE_TYPES`.
"""

from __future__ import annotations

import os
import re
import stat
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from msgspec.structs import replace

from syncd.config import units
from syncd.config import values as kinds
from syncd.config.document import Document, Path, quoted
from syncd.config.units import Refused
from syncd.config.values import MIB, Entry
from syncd.sources.places import Found, silence
from syncd.storage.s3 import regions
from syncd.storage.settings import (
    BosSettings,
    DirSettings,
    HttpSettings,
    KeySettings,
    S3Settings,
    StoreSettings,
)

_AWS_STORAGE_CLASSES = (
    "STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY", "EXPRESS_ONEZONE", "OUTPOSTS", "SNOW",
)  # fmt: skip
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
_BOS_STORAGE_CLASSES = (
    "STANDARD", "STANDARD_IA", "COLD", "ARCHIVE", "MAZ_STANDARD", "MAZ_STANDARD_IA", "MAZ_COLD",
)  # fmt: skip

_ACLS = (
    "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
    "bucket-owner-full-control",
)  # fmt: skip
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html"""

_DEFAULT_REGION = "us-east-1"
_S3_REGION = r"[A-Za-z0-9_-]{0,63}"
_S3_REGION_EXPECTED = "the name of a region, such as `us-east-1`"
_CDN = ".cdn.bcebos.com"

_KEY_FILES = {
    "access_key_file": "access_key_id",
    "secret_key_file": "secret_access_key",
    "session_token_file": "session_token",
}

_BucketName = Annotated[kinds.Text, "the name of the bucket"]
_TimeLimit = Annotated[float, kinds.duration(0.1, 3600)]


def _object_lock(value: object, _: kinds.Place) -> tuple[str, float]:
    """Parse the mode, and the seconds of retention."""
    mode, _blank, length = value.partition(" ") if isinstance(value, str) else ("", "", "")
    try:
        seconds = units.parse_duration(length)
    except ValueError:
        seconds = 0.0
    if mode not in ("GOVERNANCE", "COMPLIANCE") or not 60 <= seconds <= 36_500 * 86_400:
        raise Refused("a mode and a time, such as `GOVERNANCE 30d` or `COMPLIANCE 365d`")
    return mode, seconds


class StoreEntry(Entry, frozen=True):
    """What every type of store has, and what the rest of the configuration needs of it."""

    type: str = ""
    smallest_part: ClassVar[int] = 0
    """In bytes; 0: a part may have any size."""

    @abstractmethod
    def settings(self) -> StoreSettings:
        """Return the settings of a store without problems."""

    @abstractmethod
    def location(self) -> str:
        """Return one text for all entries that lead to the same place; empty: it is not known."""

    @property
    def directory(self) -> str:
        """The directory on this machine that holds the objects, links not resolved; else empty."""
        return ""

    def class_problem(self, storage_class: str) -> str:
        """Return what is expected instead of this storage class; empty: the store may know it."""
        return ""

    @abstractmethod
    def check(self, path: Path, document: Document, *, with_secrets: bool) -> None:
        """Add problems and warnings to `document`; without `with_secrets`, leave files of keys alone."""


class DirEntry(StoreEntry, frozen=True):
    """A store that is a directory."""

    required = ("path",)
    path: Annotated[kinds.FilePath, "the directory for the objects"] = ""
    create: kinds.Flag = False

    def settings(self) -> DirSettings:
        return DirSettings(self.path, self.create)

    _found: Found | None = None
    _real: str = ""

    def looked_up(self, place: kinds.Place) -> Self:
        if not self.path:
            return self
        return replace(self, _found=place.places.look(self.path), _real=place.places.real(self.path))

    def location(self) -> str:
        return self._real

    @property
    def directory(self) -> str:
        return self.path

    def check(self, path: Path, document: Document, *, with_secrets: bool) -> None:
        """Check the directory. It may be missing (not mounted yet), but must not be something else."""
        path = (*path, "path")
        if self.location() == "/":
            document.report(path, expected="a directory below `/`, made for this store")
        elif self._found is not None and self._found.kind == "other":
            document.report(path, found=f"{document.found(path)}, which is a file", expected="a directory")


class HttpEntry(StoreEntry, frozen=True):
    """What all stores behind HTTP share."""

    concealed = KeySettings.concealed | HttpSettings.concealed
    required = ("bucket",)
    smallest_part = 5 * MIB
    needs_keys: ClassVar[bool] = False
    bucket: str = ""
    endpoint: kinds.Endpoint = ""
    path_style: Annotated[bool | None, kinds.Parsed(kinds.flag)] = None
    access_key_id: kinds.Text = ""
    secret_access_key: kinds.Text = ""
    session_token: kinds.Text = ""
    access_key_file: kinds.FilePath = ""
    secret_key_file: kinds.FilePath = ""
    session_token_file: kinds.FilePath = ""
    proxy: kinds.Proxy = ""
    ca_bundle: kinds.FilePath = ""
    trust_environment: kinds.Flag = False
    connect_timeout: _TimeLimit = 30.0
    read_timeout: _TimeLimit = 60.0
    progress_timeout: _TimeLimit = 120.0

    @abstractmethod
    def address(self) -> str:
        """Return the endpoint as ``scheme://host[:port]``, made from the region if none is given."""

    def location(self) -> str:
        host = self.address().partition("://")[2].removeprefix(f"{self.bucket}.")
        if host.endswith(".bcebos.com"):
            host = host.removeprefix("s3.")  # BOS shows the same buckets through both of its APIs
        return f"bucket:/{host}/{self.bucket}" if self.bucket else ""

    def check(self, path: Path, document: Document, *, with_secrets: bool) -> None:
        self._check_key_pair(path, document)
        if self.endpoint.startswith("http://") and not _is_local(self._host()):
            document.warn((*path, "endpoint"), "is plain http: use https outside a trusted network")
        named = regions.bucket_in(self._host())
        if self.bucket and named not in ("", self.bucket):
            document.report(
                (*path, "endpoint"),
                found=f"{document.found((*path, 'endpoint'))}, which belongs to the bucket {quoted(named)}",
                expected=f"the address of {quoted(self.bucket)}, or one without a bucket",
            )
        for key in _KEY_FILES if with_secrets else ():
            file = getattr(self, key)
            mode = _mode_of(file, (*path, key), document) if file else 0
            if mode & stat.S_IROTH:
                shown = f"mode {stat.S_IMODE(mode):04o}"
                text = f"can be read by every user of this machine ({shown}): run `chmod 600` on it"
                document.warn((*path, key), text)
        if self.ca_bundle:
            _mode_of(self.ca_bundle, (*path, "ca_bundle"), document)

    def _http(self) -> HttpSettings:
        return HttpSettings(
            endpoint=self.address(),
            proxy=self.proxy,
            ca_bundle=self.ca_bundle,
            trust_environment=self.trust_environment,
            connect_seconds=self.connect_timeout,
            read_seconds=self.read_timeout,
            progress_seconds=self.progress_timeout,
        )

    def _keys(self) -> KeySettings:
        return KeySettings(**{key: getattr(self, key) for key in CREDENTIAL_KEYS})

    def _host(self) -> str:
        """Return the host without the port."""
        host = self.address().partition("://")[2]
        return host if host.endswith("]") else host.rpartition(":")[0] or host

    def _check_key_pair(self, path: Path, document: Document) -> None:
        """Check that keys come in pairs, each from the configuration or a file."""
        given = {key for key in CREDENTIAL_KEYS if (*path, key) in document.marks}
        for file_key, key in _KEY_FILES.items():
            if {key, file_key} <= given:
                expected = f"`{key}` or `{file_key}`, not both"
                document.report((*path, file_key), found=f"a file beside a `{key}`", expected=expected)
        pair = {"access_key_id": "access_key_file", "secret_access_key": "secret_key_file"}
        missing = [key for key, file_key in pair.items() if not given & {key, file_key}]
        if len(missing) == 1:
            expected = f"`{missing[0]}` or `{pair[missing[0]]}`, since keys come in pairs"
            document.report((*path, missing[0]), found="nothing", expected=expected)
        elif missing and (given or self.needs_keys):
            expected = "`access_key_id` and `secret_access_key`, or `access_key_file` and `secret_key_file`"
            document.report((*path, "access_key_id"), found="nothing", expected=expected)


class S3Entry(HttpEntry, frozen=True):
    """A bucket behind an S3-compatible endpoint."""

    bucket: Annotated[
        _BucketName,
        kinds.matching(
            r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]",
            "the name of a bucket: 3 or more letters, digits, `.`, `_` or `-` (folders go into `prefix`)",
        ),
    ] = ""
    region: Annotated[str, kinds.matching(_S3_REGION, _S3_REGION_EXPECTED)] = ""
    storage_class: Annotated[
        kinds.Text,
        kinds.matching(r"[A-Z][A-Z0-9_-]{0,63}", "a storage class in capitals, such as `STANDARD_IA`"),
    ] = ""
    integrity: Annotated[kinds.Text, kinds.one_of("auto", "sha256", "md5", "crc32", "none")] = "auto"
    sse: Annotated[kinds.Text, kinds.one_of("AES256", "aws:kms", "aws:kms:dsse")] = ""
    kms_key_id: kinds.Text = ""
    acl: Annotated[kinds.Text, kinds.one_of(*_ACLS)] = ""
    request_payer: Annotated[kinds.Text, kinds.one_of("requester")] = ""
    object_lock: Annotated[tuple[str, float], kinds.Parsed(_object_lock)] = ("", 0.0)
    _environment_region: str = ""

    def looked_up(self, place: kinds.Place) -> Self:
        return replace(self, _environment_region=place.aws_region)

    def settings(self) -> S3Settings:
        same = {"bucket", "path_style", "storage_class", "integrity", "sse", "kms_key_id", "acl"}
        mode, seconds = self.object_lock
        return S3Settings(
            http=self._http(),
            keys=self._keys(),
            region=self.signing_region,
            request_payer=bool(self.request_payer),
            lock_mode=mode,
            lock_seconds=seconds,
            **{key: getattr(self, key) for key in same},
        )

    def address(self) -> str:
        return self.endpoint or f"https://{regions.host(self.signing_region)}"

    @property
    def signing_region(self) -> str:
        """Return the region given, else the endpoint's, else for AWS the environment's."""
        if self.region:
            return self.region
        host = self._host() if self.endpoint else ""
        if not host or regions.is_aws(host):
            return regions.aws_region(host) or self._environment_region or _DEFAULT_REGION
        return regions.bos_region(host) or _DEFAULT_REGION

    def check(self, path: Path, document: Document, *, with_secrets: bool) -> None:
        super().check(path, document, with_secrets=with_secrets)
        if self.integrity == "none" and self.endpoint.startswith("http://"):
            document.report(
                (*path, "integrity"), expected="another check, since plain http does not notice damage"
            )
        if self.kms_key_id and not self.sse.startswith("aws:kms"):
            document.report((*path, "kms_key_id"), expected="`sse: aws:kms` beside it")
        if self.object_lock[0] and self.integrity in ("sha256", "none"):
            found = f"{document.found((*path, 'integrity'))} beside `object_lock`"
            document.report((*path, "integrity"), found=found, expected="`auto`, `md5` or `crc32`")
        if not re.fullmatch(_S3_REGION, self.signing_region):
            found = "`AWS_REGION` (its value is not shown)"
            document.report((*path, "region"), found=found, expected=_S3_REGION_EXPECTED)
        self._check_bos(path, document)
        known = self.endpoint or (*path, "endpoint") not in document.marks  # else it is invalid
        if self.storage_class and known and (expected := self.class_problem(self.storage_class)):
            document.report((*path, "storage_class"), expected=expected)

    def class_problem(self, storage_class: str) -> str:
        if not regions.is_aws(self._host()) or storage_class in _AWS_STORAGE_CLASSES:
            return ""
        return kinds.choice(storage_class, _AWS_STORAGE_CLASSES)

    def _check_bos(self, path: Path, document: Document) -> None:
        """Check for BOS's own endpoint for S3."""
        host = self._host()
        if regions.under(host, ("bcebos.com",)) and not regions.bos_region(host):
            document.report(
                (*path, "endpoint"),
                found=f"{document.found((*path, 'endpoint'))}, which speaks BOS's own interface",
                expected="`type: bos`, or an address such as `https://s3.bj.bcebos.com`",
            )


class BosEntry(HttpEntry, frozen=True):
    """A Baidu BOS bucket."""

    needs_keys = True
    bucket: Annotated[
        _BucketName,
        kinds.matching(
            r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
            "the name of a bucket: 3 to 63 of `a-z`, `0-9` and `-` (folders go into `prefix`)",
        ),
    ] = ""
    region: Annotated[
        kinds.Text, kinds.matching(r"[a-z0-9-]{1,63}", "the short name of a region, such as `bj` or `gz`")
    ] = ""
    storage_class: Annotated[
        kinds.Text,
        kinds.one_of(*_BOS_STORAGE_CLASSES),
    ] = ""
    traffic_limit: Annotated[int, kinds.size(100 << 10, 100 * MIB, or_zero=True)] = 0
    custom_domain: kinds.Flag = False

    def settings(self) -> BosSettings:
        return BosSettings(
            http=self._http(),
            keys=self._keys(),
            bucket=self.bucket,
            path_style=bool(self.path_style),
            storage_class=self.storage_class,
            traffic_limit=self.traffic_limit,
            custom_domain=self.custom_domain,
        )

    def class_problem(self, storage_class: str) -> str:
        known = storage_class in _BOS_STORAGE_CLASSES
        return "" if known else kinds.choice(storage_class, _BOS_STORAGE_CLASSES)

    def address(self) -> str:
        return self.endpoint or f"https://{self.region}.bcebos.com"

    def check(self, path: Path, document: Document, *, with_secrets: bool) -> None:
        super().check(path, document, with_secrets=with_secrets)
        endpoint, region = (*path, "endpoint"), (*path, "region")
        if endpoint in document.marks and region in document.marks:
            found = f"{document.found(region)} beside an `endpoint`"
            document.report(region, found=found, expected="`endpoint` or `region`, not both")
        elif endpoint not in document.marks and region not in document.marks:
            expected = "an address such as `https://bj.bcebos.com`, or instead a `region` such as `bj`"
            document.report(endpoint, found="nothing", expected=expected)
        if regions.bos_region(self._host()) or regions.is_aws(self._host()):
            found = f"{document.found(endpoint)}, which speaks S3"
            expected = "`type: s3`, or an address such as `https://bj.bcebos.com`"
            document.report(endpoint, found=found, expected=expected)
        self._check_custom_domain(path, document)

    def _check_custom_domain(self, path: Path, document: Document) -> None:
        """Check that the bucket's own domain has the bucket neither in its name nor in the path."""
        if not self.custom_domain:
            return
        host = self._host() if self.endpoint else ""
        official = regions.under(host, ("bcebos.com",)) and not host.endswith(_CDN)
        if official or not self.endpoint:
            document.report(
                (*path, "custom_domain"),
                found=f"`true` with {'the address of BOS' if official else 'no `endpoint`'}",
                expected="an `endpoint` with the domain that leads to this bucket",
            )
        elif self.path_style:
            document.report(
                (*path, "path_style"), found="`true` beside `custom_domain`", expected="one of them"
            )


STORE_TYPES: Mapping[str, type[StoreEntry]] = {"bos": BosEntry, "s3": S3Entry, "dir": DirEntry}

SECRET_KEYS = HttpEntry.concealed
"""Keys whose values are never shown (a proxy's address may hold a password)."""

CREDENTIAL_KEYS = frozenset(_KEY_FILES) | frozenset(_KEY_FILES.values())
"""Keys that only commands that open stores need."""


def warn_of_open_secrets(document: Document) -> None:
    """Warn of the first secret in the file itself, which every user of the machine may read."""
    for path, mark in document.marks.items():
        is_secret = path[:1] == ("stores",) and path[-1] in ("secret_access_key", "session_token")
        if is_secret and not mark.expanded:
            text = "stands in a file that every user of this machine can read: run `chmod 600` on it"
            document.warn(path, text)
            return


def _is_local(host: str) -> bool:
    return host.startswith("127.") or host in ("localhost", "[::1]") or host.endswith(".localhost")


def _mode_of(file: str, path: Path, document: Document) -> int:
    """Return the mode of a readable file that is not empty; 0, with a problem, for any other.

    If its file system does not answer, return 0 with a warning: that stops only this store.
    """
    if silence(file):
        document.warn(path, "is on a file system that does not answer: check whether its server is up")
        return 0
    try:
        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode):  # not opened: it may be a fifo
            reason = "it is not a regular file"
        else:
            with open(file, "rb"):
                reason = "" if found.st_size else "it is empty"
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
    if not reason:
        return found.st_mode
    document.report(path, found=f"{document.found(path)} ({reason})", expected="a file that can be read")
    return 0

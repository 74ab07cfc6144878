"""What has to hold between the keys of one store, and the store's settings.

Looks at the files that a store names (keys, certificates): that they can be read, not what is in them.
"""

from __future__ import annotations

import os
import stat

from syncd.config.document import Document, Path
from syncd.config.reader import BosEntry, DirEntry, Draft, HttpEntry, S3Entry, StoreEntry
from syncd.config.values import MIB, choice
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

_KEY_FILES = {
    "access_key_file": "access_key_id",
    "secret_key_file": "secret_access_key",
    "session_token_file": "session_token",
}
_SECRETS = ("secret_access_key", "session_token")


def check(draft: Draft, document: Document, *, with_secrets: bool) -> list[str]:
    """Add what is wrong with the stores to the document's problems; returns warnings.

    `with_secrets` False leaves the files that hold keys alone: who only asks for status may not read them.
    """
    warnings: list[str] = []
    for name, entry in draft.stores.items():
        path: Path = ("stores", name)
        if isinstance(entry, DirEntry):
            _check_directory(entry, path, document)
            continue
        _check_address(entry, path, document)
        _check_keys(entry, path, document)
        if isinstance(entry, S3Entry):
            _check_s3(entry, path, document)
        warnings += _warnings(entry, path, document)
        if with_secrets:
            warnings += _check_key_files(entry, path, document)
        if entry.ca_bundle:
            _mode_of(entry.ca_bundle, (*path, "ca_bundle"), document)
    _check_part_size(draft, document)
    return warnings


def settings(entry: StoreEntry) -> StoreSettings:
    """The settings of a store that has no problems."""
    if isinstance(entry, DirEntry):
        return DirSettings(entry.path, entry.create)
    if isinstance(entry, BosEntry):
        return BosSettings(
            http=_http_settings(entry),
            bucket=entry.bucket,
            path_style=bool(entry.path_style),
            storage_class=entry.storage_class,
            traffic_limit=entry.traffic_limit,
            keys=_key_settings(entry),
        )
    return S3Settings(
        http=_http_settings(entry),
        bucket=entry.bucket,
        region=entry.region,
        path_style=entry.path_style,
        storage_class=entry.storage_class,
        integrity=entry.integrity,
        keys=_key_settings(entry),
    )


def address(entry: S3Entry | BosEntry) -> str:
    """``scheme://host[:port]`` of the store's endpoint, made from its region where none is given."""
    if entry.endpoint or isinstance(entry, BosEntry):
        return entry.endpoint or f"https://{entry.region}.bcebos.com"
    china = ".cn" if entry.region.startswith("cn-") else ""
    return f"https://s3.{entry.region}.amazonaws.com{china}"


def _http_settings(entry: S3Entry | BosEntry) -> HttpSettings:
    return HttpSettings(
        endpoint=address(entry),
        proxy=entry.proxy,
        ca_bundle=entry.ca_bundle,
        trust_environment=entry.trust_environment,
        connect_seconds=entry.connect_timeout,
        read_seconds=entry.read_timeout,
        progress_seconds=entry.progress_timeout,
    )


def _key_settings(entry: HttpEntry) -> KeySettings:
    return KeySettings(
        access_key_id=entry.access_key_id,
        secret_access_key=entry.secret_access_key,
        session_token=entry.session_token,
        access_key_file=entry.access_key_file,
        secret_key_file=entry.secret_key_file,
        session_token_file=entry.session_token_file,
    )


def _host(entry: S3Entry | BosEntry) -> str:
    return address(entry).partition("://")[2]


def _is_aws(entry: S3Entry) -> bool:
    host = _host(entry).partition(":")[0]
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def secrets_in_the_open(document: Document) -> list[str]:
    """A warning for the first secret that is written in the file itself, which everybody may read."""
    for path, mark in document.marks.items():
        if path[:1] == ("stores",) and path[-1] in _SECRETS and not mark.expanded:
            text = "is written in a file that everybody on this machine can read; chmod 600 keeps it private"
            return [f"{document.label(path)}: {document.found(path)} {text}"]
    return []


# ---- rules ----------------------------------------------------------------------------------------------


def _check_directory(entry: DirEntry, path: Path, document: Document) -> None:
    """The directory may be missing (a disk that is not mounted yet), but not be something else."""
    if not entry.path:
        return
    if os.path.realpath(entry.path) == "/":
        document.report((*path, "path"), expected="a directory below `/`, made for this store")
    elif os.path.exists(entry.path) and not os.path.isdir(entry.path):
        found = f"{document.found((*path, 'path'))}, which is a file"
        document.report((*path, "path"), found=found, expected="a directory")


def _check_address(entry: HttpEntry, path: Path, document: Document) -> None:
    if not isinstance(entry, BosEntry):
        return
    endpoint, region = (*path, "endpoint"), (*path, "region")
    if endpoint in document.marks and region in document.marks:
        found = f"{document.found(region)} beside an `endpoint`"
        document.report(region, found=found, expected="`endpoint` or `region`, not both")
    elif endpoint not in document.marks and region not in document.marks:
        document.report(
            endpoint,
            found="nothing",
            expected="the address, such as `https://bj.bcebos.com`, or instead a `region`, such as `bj`",
        )


def _check_keys(entry: HttpEntry, path: Path, document: Document) -> None:
    """Keys come in pairs, each from the configuration or from a file."""
    given = {key: (*path, key) in document.marks for pair in _KEY_FILES.items() for key in pair}
    for file_key, key in _KEY_FILES.items():
        if given[key] and given[file_key]:
            expected = f"`{key}` or `{file_key}`, not both"
            document.report((*path, file_key), found=f"a file beside a `{key}`", expected=expected)
    has_id = given["access_key_id"] or given["access_key_file"]
    has_secret = given["secret_access_key"] or given["secret_key_file"]
    has_token = given["session_token"] or given["session_token_file"]
    if has_id and not has_secret:
        expected = "`secret_access_key` or `secret_key_file`: half a pair of keys opens nothing"
        document.report((*path, "secret_access_key"), found="nothing", expected=expected)
    elif has_secret and not has_id:
        expected = "`access_key_id` or `access_key_file`: half a pair of keys opens nothing"
        document.report((*path, "access_key_id"), found="nothing", expected=expected)
    elif not has_id and (has_token or isinstance(entry, BosEntry)):
        expected = "`access_key_id` and `secret_access_key`, or `access_key_file` and `secret_key_file`"
        document.report((*path, "access_key_id"), found="nothing", expected=expected)


def _check_s3(entry: S3Entry, path: Path, document: Document) -> None:
    if entry.integrity == "none" and address(entry).startswith("http://"):
        expected = "another check: over plain http, without TLS, nobody would notice a broken byte"
        document.report((*path, "integrity"), expected=expected)
    wrong_class = entry.storage_class and entry.storage_class not in _AWS_STORAGE_CLASSES
    if wrong_class and _is_aws(entry) and not _is_unknown((*path, "endpoint"), entry.endpoint, document):
        expected = choice(entry.storage_class, _AWS_STORAGE_CLASSES)
        document.report((*path, "storage_class"), expected=expected)


def _is_unknown(path: Path, value: str, document: Document) -> bool:
    """Whether the value was given, but could not be read."""
    return path in document.marks and not value


def _check_part_size(draft: Draft, document: Document) -> None:
    """A problem only where a store is used that has such a limit."""
    if draft.transfer.part_size % MIB:
        document.report(("transfer", "part_size"), expected="whole MiB: BOS takes no other parts")
    elif draft.transfer.part_size < 5 * MIB and any(isinstance(e, HttpEntry) for e in draft.stores.values()):
        document.report(
            ("transfer", "part_size"), expected="at least `5MiB`: S3 and BOS refuse smaller parts"
        )


def _warnings(entry: S3Entry | BosEntry, path: Path, document: Document) -> list[str]:
    host = _host(entry)
    local = host.startswith(("127.", "[::1]")) or host.partition(":")[0] in ("localhost", "")
    if local or host.partition(":")[0].endswith(".localhost") or not entry.endpoint.startswith("http://"):
        return []
    key = (*path, "endpoint")
    text = f"{document.found(key)} is plain http: everybody on the way can read what is sent"
    return [f"{document.label(key)}: {text}"]


def _check_key_files(entry: HttpEntry, path: Path, document: Document) -> list[str]:
    warnings = []
    for key in _KEY_FILES:
        file = getattr(entry, key)
        mode = _mode_of(file, (*path, key), document) if file else None
        if mode is not None and mode & stat.S_IROTH:
            shown = f"{document.label((*path, key))}: {document.found((*path, key))}"
            mode_text = f"mode {stat.S_IMODE(mode):04o}"
            warnings.append(
                f"{shown} can be read by everybody on this machine ({mode_text}); chmod 600 helps"
            )
    return warnings


def _mode_of(file: str, path: Path, document: Document) -> int | None:
    """The mode of a file that can be read and holds something; None with a problem when not."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
    else:
        if stat.S_ISREG(found.st_mode) and found.st_size:
            return found.st_mode
        reason = "it is empty" if stat.S_ISREG(found.st_mode) else "it is not a regular file"
    document.report(path, found=f"{document.found(path)} ({reason})", expected="a file that can be read")
    return None

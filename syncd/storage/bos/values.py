"""How BOS writes values: numbers, truths, times, ETags, and our metadata. Pure, and lenient in reading.

Servers of this protocol differ: numbers arrive as numbers or as text, optional fields are absent or empty.
What cannot be read is None; whoever asked decides whether that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from syncd.core.model import ObjectMeta

_META = "x-bce-meta-"
_LONGEST_NUMBER = 40
_MTIME = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,18}))?")


def number(value: object) -> int | None:
    """A whole number of at least 0, given as a number or as decimal text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.strip().isdecimal():
        return int(value) if len(value) <= _LONGEST_NUMBER else None
    return value if isinstance(value, int) and value >= 0 else None


def truth(value: object) -> bool:
    """A truth, given as such or as the text ``true``."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def etag(value: object) -> str:
    """An ETag without its quotes; empty when there is none."""
    return value.strip().removeprefix("W/").strip('"') if isinstance(value, str) else ""


def time_ns(value: object) -> int | None:
    """An ISO 8601 time, with or without fraction, in nanoseconds since 1970; UTC unless it says otherwise."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def metadata_headers(meta: ObjectMeta) -> dict[str, str]:
    """What travels with an object: ``mtime`` as rclone writes it, our digest, and the token of the upload.

    Values that are not plain ASCII are percent-encoded: the vendor's SDKs disagree about raw UTF-8 here.
    """
    headers = {
        f"{_META}mtime": mtime_text(meta.mtime_ns),
        f"{_META}syncd-xxh128": meta.fingerprint.hex,
    }
    if meta.token:
        headers[f"{_META}syncd-upload"] = quote(meta.token, safe="-._~")
    return headers


def mtime_text(mtime_ns: int) -> str:
    """Seconds since 1970 in decimal, the fraction to the nanosecond without trailing zeros."""
    seconds, fraction = divmod(abs(mtime_ns), 10**9)
    text = f"{seconds}.{fraction:09d}".rstrip("0").rstrip(".") if fraction else str(seconds)
    return f"-{text}" if mtime_ns < 0 else text


def mtime_ns(headers: Mapping[str, str]) -> int | None:
    """The ``mtime`` of an object's headers, in nanoseconds."""
    found = _MTIME.fullmatch(headers.get(f"{_META}mtime", "").strip())
    if found is None:
        return None
    sign, seconds, fraction = found.groups(default="")
    value = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return -value if sign else value


def digest(headers: Mapping[str, str]) -> bytes | None:
    """The XXH3-128 digest of an object's headers: 16 bytes."""
    value = headers.get(f"{_META}syncd-xxh128", "").strip()
    try:
        found = bytes.fromhex(value)
    except ValueError:
        return None
    return found if len(found) == 16 else None


def token(headers: Mapping[str, str]) -> str | None:
    """The upload's token of an object's headers."""
    value = headers.get(f"{_META}syncd-upload", "").strip()
    return unquote(value) or None

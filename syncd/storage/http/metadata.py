"""The headers of an object: mtime, digest, token, instance, properties, attributes; and ETags.

Pure, and lenient in reading.
``mtime`` is decimal seconds, as rclone writes and reads it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote, urlencode

from syncd.core.model import ObjectInfo, ObjectMeta
from syncd.storage import attributes

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_MTIME = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,20}))?", re.ASCII)


_HTTP = {
    "content-type": True,
    "cache-control": True,
    "content-encoding": True,
    "content-disposition": True,
    "content-language": False,
    "expires": False,
}
"""HTTP headers that stay with an object, and whether syncd may have set them."""


def metadata_headers(prefix: str, meta: ObjectMeta) -> dict[str, str]:
    """Return the headers; their names start with `prefix`.

    Token and instance are percent-encoded: clients disagree about values beyond ASCII.
    """
    headers = {f"{prefix}{name}": value for name, value in meta.others if not name.startswith("/")}
    headers |= {
        f"{prefix}mtime": mtime_text(meta.mtime_ns),
        f"{prefix}syncd-xxh128": meta.fingerprint.hex,
    }
    if meta.token:
        headers[f"{prefix}syncd-upload"] = quote(meta.token, safe="-._~")
    if meta.instance:
        headers[f"{prefix}syncd-instance"] = quote(meta.instance, safe="-._~")
    if stamp := meta.properties.stamp:
        headers[f"{prefix}syncd-properties"] = stamp
    if meta.attributes is not None:
        texts = attributes.to_texts(meta.attributes, is_folder=meta.is_folder)
        headers |= {f"{prefix}{key}": text for key, text in texts.items()}
    if meta.is_link:
        headers[f"{prefix}mode"] = attributes.LINK_MODE
    if meta.others:
        headers[f"{prefix}syncd-others"] = ",".join(name for name, _ in meta.others)
    return headers


def property_headers(
    vendor: str, meta: ObjectMeta, storage_class: str, *, copy: bool = False
) -> dict[str, str]:
    """Return a new object's headers besides its metadata, if put, uploaded in parts or copied.

    `vendor` begins the names that are not HTTP's own; `storage_class` is the store's, if the object has none.
    A `copy` that says nothing about tags keeps those of its source.
    """
    said = meta.properties
    given = {
        "content-type": meta.content_type,
        "cache-control": said.cache_control,
        "content-encoding": said.content_encoding,
        "content-disposition": said.content_disposition,
        f"{vendor}storage-class": said.storage_class or storage_class,
        f"{vendor}tagging": urlencode(said.tags, quote_via=quote) if said.tags else "",
        f"{vendor}tagging-directive": "REPLACE" if copy and said.tags is not None else "",
    }
    given |= {name[1:]: value for name, value in meta.others if name.startswith("/")}
    return {name: value for name, value in given.items() if value}


def described(
    prefix: str, headers: Mapping[str, str], key: str, size: int, etag: str, crc32: int | None, *, plain: bool
) -> ObjectInfo:
    """Return the object as its headers describe it; None for what is missing or makes no sense.

    `plain` says that an ETag in the form of an MD5 is the MD5 of the content.
    """

    own = {name[len(prefix) :]: value.strip() for name, value in headers.items() if name.startswith(prefix)}

    def text(name: str) -> str | None:
        return unquote(own[name]) or None if name in own else None

    mtime = mtime_ns(own.get("mtime", ""))
    return ObjectInfo(
        key,
        size,
        etag,
        digest(own.get("syncd-xxh128", "")),
        mtime,
        text("syncd-upload"),
        crc32,
        md5=(digest(etag) if plain else None) or _noted_md5(own),
        instance=text("syncd-instance"),
        stored_ns=_date_ns(headers.get("last-modified", "")) if mtime is None else None,
        stamp=text("syncd-properties") or "",
        attributes=attributes.from_texts(own),
        is_link=attributes.says_link(own),
        others=_of_others(own, headers),
    )


def _of_others(own: Mapping[str, str], headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what syncd did not write. An object without our digest is all another program's; one of ours
    names what was kept of theirs.
    """
    kept, all_theirs = own.get("syncd-others", "").split(","), "syncd-xxh128" not in own
    found = []
    for name, may_be_ours in _HTTP.items():
        is_theirs = all_theirs or not may_be_ours or f"/{name}" in kept
        if is_theirs and name in headers and "aws-chunked" not in headers[name]:  # used only in transit
            found.append((f"/{name}", headers[name].strip()))
    for name, value in own.items():
        is_theirs = all_theirs or not attributes.is_ours(name) or name in kept
        if is_theirs and name != "mtime" and not name.startswith("syncd-"):
            found.append((name, value))
    return tuple(found)


def _noted_md5(own: Mapping[str, str]) -> bytes | None:
    """Return the MD5 that rclone and s3cmd note for an object that they send in parts.

    Sources: https://rclone.org/s3/#multipart-uploads; S3/S3.py of s3cmd, `attrs_header`.
    """
    if found := own.get("md5chksum"):
        return base64_digest(found, 16)
    if found := own.get("s3cmd-attrs"):
        named = dict(each.split(":", 1) for each in unquote(found).split("/") if ":" in each)
        return digest(named.get("md5", ""))
    return None


def base64_digest(text: str, size: int) -> bytes | None:
    """Decode a digest of `size` bytes from base64."""
    try:
        found = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        return None
    return found if len(found) == size else None


def _date_ns(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return None


def range_total(headers: Mapping[str, str], first: int, last: int, size: int) -> int | None:
    """Return the object's bytes by the answer's Content-Range; None unless it fits the request.

    `size` is the number of bytes in the answer.
    """
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return None
    begin, end, total = map(int, found.groups())
    fits = begin == first and end == first + size - 1 <= last and end < total
    return total if fits and end == min(last, total - 1) else None


def mtime_text(mtime_ns: int) -> str:
    """Format as decimal seconds since 1970, to the nanosecond, without trailing zeros."""
    seconds, fraction = divmod(abs(mtime_ns), 10**9)
    text = f"{seconds}.{fraction:09d}".rstrip("0") if fraction else str(seconds)
    return f"-{text}" if mtime_ns < 0 else text


def mtime_ns(text: str) -> int | None:
    """Reverse `mtime_text`; None: the text makes no sense."""
    found = _MTIME.fullmatch(text.strip())
    if found is None:
        return None
    sign, seconds, fraction = found.groups(default="")
    value = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return -value if sign else value


def digest(text: str) -> bytes | None:
    """Decode an XXH3-128 or MD5 digest from hex: 16 bytes."""
    try:
        found = bytes.fromhex(text.strip())
    except ValueError:
        return None
    return found if len(found) == 16 else None


def condition_headers(meta: ObjectMeta) -> dict[str, str]:
    """Return the condition on the object to replace; none for None."""
    if meta.replaces is None:
        return {}
    return {"if-match": f'"{meta.replaces}"'} if meta.replaces else {"if-none-match": "*"}


def bare_etag(value: object) -> str:
    """Return an ETag without its quotes; empty: there is none."""
    return value.strip().removeprefix("W/").strip('"') if isinstance(value, str) else ""

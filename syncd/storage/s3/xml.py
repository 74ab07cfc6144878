"""Reads the XML of S3 with suspicion, and writes it by hand. Pure.

What comes back may be an answer, an error, a proxy's HTML page, half of any of them, or nothing. `parse`
returns None for everything but one whole, plain XML document: no DOCTYPE, no entities of its own, at most
`MAX_BYTES`, neither deeper nor of more elements than any answer of S3. Names lose their namespace, because
servers disagree about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape  # the one of xml.sax imports half an HTTP client
from urllib.parse import unquote, unquote_plus
from xml.parsers import expat

from syncd.core.model import ObjectInfo, Part, UploadInfo
from syncd.storage.http.metadata import bare_etag

Marker = tuple[str, str]
"""The parameter of the next request that says where to continue, and its value."""

MAX_BYTES = 8 << 20
MAX_DEPTH = 16
MAX_ELEMENTS = 200_000
"""Ten thousand parts have a third. An element of four bytes takes two hundred of memory."""
_FORBIDDEN = re.compile(rb"&#(x0*1?[0-9A-Fa-f]|0*[123]?[0-9]);|([\x01-\x08\x0b\x0c\x0e-\x1f])")
_STAND_IN = 0x10FF00  # private use: no real key has it
_TAKEN_BACK = {_STAND_IN + code: code for code in range(0x20)}
_ENCODED = re.compile(r"(?:[!-$&-*,-~]|%[0-9A-F]{2})*")


class Element:
    """One element: its name without namespace, its text, its children in order."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def all(self, name: str) -> Iterator[Element]:
        """Return the children of this name."""
        return (child for child in self.children if child.name == name)

    def get(self, name: str) -> str:
        """Return the text of the first child of this name; empty: there is none."""
        for child in self.children:
            if child.name == name:
                return child.text
        return ""


class _RefusedError(Exception):
    """No store sends such a document."""


class _Builder:
    """Collects what the parser reports into a tree."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0
        self._texts: list[list[str]] = []

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        element = Element(name.rpartition("}")[2])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise _RefusedError
        self._open.append(element)
        self._texts.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def text(self, data: str) -> None:
        if self._texts:
            self._texts[-1].append(data.translate(_TAKEN_BACK))

    def refuse(self, *_arguments: object) -> None:
        raise _RefusedError


def parse(body: bytes) -> Element | None:
    """Return the root of the document; None: `body` is none. White space before it is allowed: servers send
    some to keep a slow request alive. So are characters that XML forbids, raw or as references: a key may
    hold them, and servers write them.
    """
    if len(body) > MAX_BYTES:
        return None
    text = body.lstrip()
    root = _parse_strictly(text)
    if root is None and _FORBIDDEN.search(text):
        root = _parse_strictly(_FORBIDDEN.sub(_stand_in, text))
    return root


def _stand_in(reference: re.Match[bytes]) -> bytes:
    """Return a control character's stand-in for the parser; `_Builder` takes it back."""
    if reference[2]:
        return chr(_STAND_IN + reference[2][0]).encode()
    digits = reference[1].decode()
    code = int(digits[1:], 16) if digits[:1] in "xX" else int(digits)
    return chr(_STAND_IN + code).encode() if 0 < code < 0x20 else reference[0]


def _parse_strictly(text: bytes) -> Element | None:
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.EntityDeclHandler = builder.refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, _RefusedError, ValueError, LookupError):
        return None
    return builder.root


def document(body: bytes, root: str) -> Element | None:
    """Return the parsed document if its root has this name, else None. Some servers leave ``Result`` out of
    the name, or say ``Response``.
    """
    parsed = parse(body)
    stem = root.removesuffix("Result")
    if parsed is None or parsed.name not in (root, stem, f"{stem}Response"):
        return None
    return parsed


def parts_page(page: Element) -> tuple[list[Part], int | None] | None:
    """Return the parts of a ListPartsResult and the number after which the next page starts (None: it is the
    last); None: it makes no sense.

    If the server says that there is more but not from where, its last number counts.
    """
    parts = []
    for element in page.all("Part"):
        number, size = whole_number(element.get("PartNumber")), whole_number(element.get("Size"))
        if number is None or size is None:
            return None
        stored_ns = _moment(element.get("LastModified"))
        parts.append(Part(number, size, bare_etag(element.get("ETag")), stored_ns=stored_ns))
    if not truncated(page):
        return parts, None
    marker = whole_number(page.get("NextPartNumberMarker"))
    return parts, max((part.number for part in parts), default=None) if marker is None else marker


def uploads_page(page: Element, prefix: str) -> tuple[list[UploadInfo], tuple[str, str] | None] | None:
    """Return the uploads under `prefix` of a ListMultipartUploadsResult and the marker (key, id) of the next
    page (None: it is the last); None: it has more and does not say from where. Others are left out, should
    the server ignore `prefix`.

    We ask for percent-encoded keys, since XML cannot hold every character.
    """
    declared = page.get("EncodingType") == "url"
    listed = list(page.all("Upload"))
    keys = [found.get("Key") for found in listed]
    if declared:
        keys = [unquote_plus(key) for key in keys]  # a blank may be a plus, a plus is always %2B
    elif silently_encoded(keys, page.get("NextKeyMarker")):
        keys = [unquote(key) for key in keys]
    uploads = [
        UploadInfo(key, found.get("UploadId").strip(), _moment(found.get("Initiated")))
        for key, found in zip(keys, listed, strict=True)
    ]
    ours = [upload for upload in uploads if upload.upload_id and upload.key.startswith(prefix)]
    if not truncated(page):
        return ours, None
    marker = page.get("NextKeyMarker")
    if marker:
        return ours, (unquote_plus(marker) if declared else marker, page.get("NextUploadIdMarker").strip())
    return (ours, (uploads[-1].key, uploads[-1].upload_id)) if uploads else None


def objects_page(page: Element, prefix: str) -> tuple[list[ObjectInfo], Marker | None] | None:
    """Return the objects under `prefix` of a ListBucketResult and the marker of the next page (None: it is
    the last); None: it makes no sense.

    Others are left out, should the server ignore `prefix`. A page that does not say whether there is more has
    no more. If it has more but no token, the next request starts after its last key, with the parameter of
    the call's first version if the answer is one of those.
    """
    listed = list(page.all("Contents"))
    keys = [found.get("Key") for found in listed]
    if page.get("EncodingType") == "url":
        keys = [unquote_plus(key) for key in keys]  # a blank may be a plus, a plus is always %2B
    elif silently_encoded(keys, page.get("NextMarker")):
        keys = [unquote(key) for key in keys]
    objects = []
    for key, found in zip(keys, listed, strict=True):
        size = whole_number(found.get("Size"))
        if not key or size is None:
            return None
        if key.startswith(prefix):
            objects.append(ObjectInfo(key, size, bare_etag(found.get("ETag"))))
    if not truncated(page):
        return objects, None
    token = page.get("NextContinuationToken").strip()
    if token:
        return objects, ("continuation-token", token)
    behind = "marker" if any(page.all("Marker")) else "start-after"
    return (objects, (behind, keys[-1])) if keys else None


def silently_encoded(keys: list[str], marker: str) -> bool:
    """Return whether keys are percent-encoded although the answer does not say so: one server encodes keys,
    but not the marker, which it always gives and which is the last key. Others encode nothing and say
    nothing.
    """
    if not keys or not marker or not all(_ENCODED.fullmatch(key) for key in keys):
        return False
    return unquote(keys[-1]) == marker


def truncated(page: Element) -> bool:
    """Return ``IsTruncated``; absent means no: one server omits it from its only page."""
    return page.get("IsTruncated").strip().lower() == "true"


def whole_number(text: str) -> int | None:
    """Return a number without sign; None for anything else."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _moment(text: str) -> int | None:
    """Return ISO 8601 as nanoseconds since 1970; None: it is something else."""
    try:
        return int(datetime.fromisoformat(text.strip()).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return None


def complete_body(parts: Sequence[Part]) -> bytes:
    """Return the list of parts for CompleteMultipartUpload, ETags quoted."""
    lines = ['<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">']
    for part in parts:
        etag = escape(part.etag, quote=False)
        lines.append(f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>")
    lines.append("</CompleteMultipartUpload>")
    return "".join(lines).encode()

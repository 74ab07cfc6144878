"""The checking side of bce-auth-v1, written from the vendor's description and sharing nothing with ours.

Works on bytes as they came over the wire: path and query are decoded and encoded again, as the real service
does, so that a client may write them in any valid spelling.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_SET = {b"host", b"content-length", b"content-type", b"content-md5"}


class Refusal(Exception):
    """An answer other than success, in BOS's words."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message or code


@dataclass(frozen=True, slots=True)
class Account:
    """Keys that the server accepts; with a session token they are temporary ones."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    expires: float | None = None
    """Unix seconds after which the session token is refused."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What the signature covers, as it came over the wire."""

    method: str
    path: bytes
    query: Sequence[tuple[bytes, bytes]]
    """Decoded names and values."""
    headers: Sequence[tuple[bytes, bytes]]


def decode(text: bytes) -> bytes:
    """Percent-decoding; a plus sign is a plus sign."""
    out = bytearray()
    i = 0
    while i < len(text):
        if text[i : i + 1] == b"%":
            try:
                out.append(int(text[i + 1 : i + 3], 16))
            except ValueError:
                raise Refusal(400, "InvalidURI", "bad percent-encoding") from None
            i += 3
        else:
            out.append(text[i])
            i += 1
    return bytes(out)


def encode(text: bytes, also: bytes = b"") -> bytes:
    """Percent-encoding of everything but unreserved characters and those in `also`."""
    return b"".join(
        bytes((byte,)) if byte in _UNRESERVED or byte in also else b"%%%02X" % byte for byte in text
    )


def parse_query(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Items of a query string, decoded; an item without equals sign has an empty value."""
    items = (item.partition(b"=") for item in raw.split(b"&") if item)
    return [(decode(name), decode(value)) for name, _, value in items]


def check(signed: Signed, accounts: Mapping[str, Account], now: float, max_skew: float) -> Account:
    """The account that made the request. Raises Refusal."""
    headers: dict[bytes, bytes] = {name.lower(): value.strip() for name, value in signed.headers}
    query = {name.lower(): value for name, value in signed.query}
    presigned = b"authorization" not in headers
    given = query.get(b"authorization", b"") if presigned else headers[b"authorization"]
    if not given:
        raise Refusal(403, "AccessDenied", "anonymous access is not allowed here")
    fields = given.split(b"/")
    if len(fields) != 6 or fields[0] != b"bce-auth-v1":
        raise Refusal(400, "InvalidHTTPAuthHeader", "the Authorization header cannot be parsed")
    _, access_key_id, stamp, life, listed, signature = fields
    account = accounts.get(access_key_id.decode("latin-1"))
    if account is None:
        raise Refusal(403, "InvalidAccessKeyId", "the access key id does not exist")
    _check_clock(stamp, life, b"" if presigned else headers.get(b"x-bce-date", b""), now, max_skew)
    names = _names(listed, headers)
    prefix = b"/".join((b"bce-auth-v1", access_key_id, stamp, life))
    key = hmac.new(account.secret_access_key.encode(), prefix, hashlib.sha256).hexdigest().encode()
    expected = hmac.new(key, canonical(signed, headers, names), hashlib.sha256).hexdigest().encode()
    if not hmac.compare_digest(expected, signature):
        raise Refusal(403, "SignatureDoesNotMatch", "the signature does not match; check the secret key")
    token = (
        query.get(b"x-bce-security-token", b"") if presigned else headers.get(b"x-bce-security-token", b"")
    )
    _check_token(account, token.decode("latin-1"), now)
    return account


def canonical(signed: Signed, headers: Mapping[bytes, bytes], names: set[bytes]) -> bytes:
    """The four fields that are signed."""
    items = sorted(
        encode(name) + b"=" + encode(value)
        for name, value in signed.query
        if name.lower() != b"authorization"
    )
    lines = sorted(encode(name) + b":" + encode(headers[name]) for name in names if headers.get(name))
    path = encode(decode(signed.path), also=b"/") or b"/"
    return b"\n".join((signed.method.upper().encode(), path, b"&".join(items), b"\n".join(lines)))


def _names(listed: bytes, headers: Mapping[bytes, bytes]) -> set[bytes]:
    own = {name for name in headers if name.startswith(b"x-bce-")}
    if not listed:
        return own | (_DEFAULT_SET & set(headers))
    names = set(listed.split(b";"))
    if b"host" not in names:
        raise Refusal(400, "InvalidHTTPAuthHeader", "host must be among the signed headers")
    unsigned = {name for name in own if headers[name]} - names
    if unsigned:
        raise Refusal(403, "SignatureDoesNotMatch", f"unsigned: {b' '.join(sorted(unsigned)).decode()}")
    return names


def _check_clock(stamp: bytes, life: bytes, date: bytes, now: float, max_skew: float) -> None:
    signed_at = _seconds(stamp)
    if abs(_seconds(date or stamp) - now) > max_skew or signed_at - now > max_skew:
        raise Refusal(403, "RequestTimeTooSkewed", "the request's time and the server's differ too much")
    if life != b"-1" and now > signed_at + int(life):
        raise Refusal(400, "RequestExpired", "the request has expired")


def _seconds(stamp: bytes) -> float:
    try:
        return calendar.timegm(time.strptime(stamp.decode(), "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise Refusal(400, "InvalidHTTPAuthHeader", "a timestamp cannot be parsed") from None


def _check_token(account: Account, token: str, now: float) -> None:
    if token != account.session_token:
        raise Refusal(400, "InvalidSessionToken", "the session token is not that of the access key")
    if account.expires is not None and now >= account.expires:
        raise Refusal(400, "InvalidSessionToken", "the session token has expired")

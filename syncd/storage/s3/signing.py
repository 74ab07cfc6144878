"""AWS Signature Version 4: from a request and a moment to the value of ``Authorization``. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

Easy to get wrong: for S3 the path is signed exactly as on the wire, encoded once (every other AWS service
encodes it twice); the query is sorted after encoding; a name without a value is signed with its equals sign.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from syncd.storage.http.messages import Credentials

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""Stands for the body's hash if something else protects the body (TLS, a checksum header)."""

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_UNRESERVED = "-_.~"
_PLAIN = bytes(range(ord(" "), 0x7F)) + b"\0"
_NOT_SIGNED = frozenset({"authorization", "content-length", "user-agent", "accept-encoding", "connection"})
"""Headers of the transport, which may set or drop them."""


def encode(text: str) -> str:
    """Percent-encode UTF-8, also ``/``, except unreserved characters, with upper-case hex."""
    return quote(text, safe=_UNRESERVED)


def encode_path(text: str) -> str:
    """The same, but ``/`` stays. Nothing is collapsed: ``//`` and dot segments go out as they are."""
    return quote(text, safe="/" + _UNRESERVED)


def amz_date(now: float) -> str:
    """Format Unix seconds as ``20130524T000000Z``."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ")


def canonical_query(query: Iterable[tuple[str, str]]) -> str:
    """Encode, then sort by name and value."""
    return "&".join(
        f"{name}={value}" for name, value in sorted((encode(name), encode(value)) for name, value in query)
    )


def signed_names(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the headers to sign, in signing order: the lower-case name, and the name as written."""
    return tuple(sorted((lower, name) for name in names if (lower := name.lower()) not in _NOT_SIGNED))


def canonical_headers(headers: Mapping[str, str], names: Iterable[tuple[str, str]]) -> str:
    """Return the block of signed headers, each line ended. Runs of blanks in a value count as one."""
    lines = [f"{lower}:{headers[name]}" for lower, name in names]
    text = "\0".join(lines)
    is_plain = not text.encode("utf-8", "surrogatepass").translate(None, _PLAIN)
    # Nearly all are plain: no blank to drop. A colon may also be inside a value.
    if not is_plain or "  " in text or ": " in text or " \0" in text or text[-1:] == " ":
        lines = [f"{lower}:{' '.join(headers[name].split())}" for lower, name in names]
    return "\n".join(lines) + "\n"


class Signer:
    """Signs for one region and service; keeps the key of the day, which is most of the work.

    For several threads: what it keeps is replaced whole, never changed.
    """

    def __init__(self, region: str, service: str = "s3") -> None:
        self.region = region
        self._service = service
        self._key: tuple[str, str, hmac.HMAC | None] = ("", "", None)
        self._date: tuple[int, str] = (-1, "")
        self._shape: tuple[tuple[str, ...], tuple[tuple[str, str], ...], str] = ((), (), "")

    def date(self, now: float) -> str:
        """Return `amz_date`, remembered for its second."""
        second = int(now)
        known, text = self._date
        if known != second:
            text = amz_date(second)
            self._date = (second, text)
        return text

    def _signing_key(self, secret: str, day: str) -> hmac.HMAC:
        """Return a started HMAC with the key of the day; copy it."""
        known_secret, known_day, started = self._key
        if started is None or known_day != day or known_secret != secret:
            key = ("AWS4" + secret).encode()
            for step in (day, self.region, self._service, "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            started = hmac.new(key, digestmod="sha256")
            self._key = (secret, day, started)
        return started.copy()

    def _signed(self, headers: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], str]:
        """Return `signed_names`, and their list joined by ``;``: most requests repeat the last headers."""
        given = tuple(headers)
        known, names, joined = self._shape
        if known != given:
            names = signed_names(given)
            joined = ";".join([lower for lower, _ in names])
            self._shape = (given, names, joined)
        return names, joined

    def authorization(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]],
        headers: Mapping[str, str],
        payload_hash: str,
        credentials: Credentials,
    ) -> str:
        """Return the value of ``Authorization``.

        `path` is as on the wire, `query` raw, `headers` all that go out, with ``host`` and ``x-amz-date``;
        `payload_hash` is the lower-case hex SHA-256 of the body or `UNSIGNED_PAYLOAD`.
        """
        signed, names = self._signed(headers)
        block = canonical_headers(headers, signed)
        moment = headers["x-amz-date"]
        day = moment[:8]
        scope = f"{day}/{self.region}/{self._service}/aws4_request"
        canonical = (
            f"{method}\n{path}\n{canonical_query(query) if query else ''}\n{block}\n{names}\n{payload_hash}"
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        started = self._signing_key(credentials.secret_access_key, day)
        started.update(text.encode())
        signature = started.hexdigest()
        return (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )

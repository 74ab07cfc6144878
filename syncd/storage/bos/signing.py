"""bce-auth-v1, the signature of Baidu's services. Pure: the time is an argument.

Two HMACs. The first makes a signing key from the secret and a prefix (version, access key id, timestamp, life
in seconds); its lower-case hex *text* is the key of the second, which signs the canonical request: method,
path, query and headers, each percent-encoded, joined by line feeds.

We always list the signed headers. Without a list the server takes a default set with ``content-length``, and
a proxy that adds or drops that header breaks the signature.

Source: https://cloud.baidu.com/doc/Reference/s/njwvz1yfu, with vectors made by the vendor's SDKs.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from syncd.storage.http.messages import Credentials

LIFE_SECONDS = 1800
"""How long a signature is valid: as in the vendor's SDKs."""

_ALSO_SIGNED = ("content-md5", "content-type", "host")


def encode(text: str, *, keep_slash: bool = False) -> str:
    """Percent-encode UTF-8, except letters, digits and ``-._~`` (and ``/`` if it is kept)."""
    return quote(text, safe="-._~/" if keep_slash else "-._~")


_encode = lru_cache(256)(encode)
"""For headers: most names and values are those of the last request."""


def timestamp(now: float) -> str:
    """Format Unix seconds as ``YYYY-MM-DDThh:mm:ssZ``, without the fraction."""
    return _timestamp(int(now))


@lru_cache(8)
def _timestamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def names_to_sign(headers: Mapping[str, str]) -> list[str]:
    """Return the headers to list, of those given with lower-case names: host, MD5, type, and every ``x-bce-``
    one.

    A header without a value is not signed, so it is not listed.
    """
    return sorted(
        [
            name
            for name, value in headers.items()
            if (name in _ALSO_SIGNED or name.startswith("x-bce-")) and value.strip()
        ]
    )


def canonical_query(query: Iterable[tuple[str, str]]) -> str:
    """Encode ``name=value`` items, then sort them as whole strings: ``a-b=2`` before ``a=1``."""
    return "&".join(
        sorted(f"{encode(name)}={encode(value)}" for name, value in query if name.lower() != "authorization")
    )


def canonical_headers(headers: Mapping[str, str], names: Iterable[str]) -> str:
    """Return encoded ``name:value`` lines of the named headers, sorted as lines. Names are lower-case."""
    trimmed = [(name, headers.get(name, "").strip()) for name in names]
    return "\n".join(sorted([f"{_encode(name)}:{_encode(value)}" for name, value in trimmed if value]))


def canonical_request(
    method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], names: Iterable[str]
) -> str:
    """Return the text to sign. `path` is percent-encoded, as on the wire."""
    return "\n".join((method.upper(), path or "/", canonical_query(query), canonical_headers(headers, names)))


def authorization(
    canonical: str,
    names: Iterable[str],
    credentials: Credentials,
    now: float,
    life_seconds: int = LIFE_SECONDS,
) -> str:
    """Return the Authorization header for a canonical request made with the same `names`."""
    prefix = f"bce-auth-v1/{credentials.access_key_id}/{timestamp(now)}/{life_seconds}"
    signing_key = _signing_key(credentials.secret_access_key, prefix)
    return f"{prefix}/{';'.join(names)}/{_hmac_hex(signing_key, canonical)}"


def _hmac_hex(key: str, text: str) -> str:
    return hmac.digest(key.encode(), text.encode(), "sha256").hex()


_signing_key = lru_cache(8)(_hmac_hex)
"""The same for all requests of a second."""

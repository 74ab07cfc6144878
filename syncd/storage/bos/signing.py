"""bce-auth-v1, the signature of Baidu's services. Pure: the time is an argument.

Two HMACs. The first makes a signing key from the secret and a prefix (version, access key id, timestamp, life
in seconds); its lower-case hex *text* is the key of the second, which signs the canonical request: method,
path, query and headers, each percent-encoded, joined by line feeds.

The list of signed headers is always written out. Without a list the server takes a default set that holds
``content-length``, and then every proxy that adds or drops that header breaks the signature.

Source: https://cloud.baidu.com/doc/Reference/s/njwvz1yfu, with vectors made by the vendor's SDKs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from syncd.storage.http.messages import Credentials

LIFE_SECONDS = 1800
"""How long a signature is good for; what the vendor's SDKs use."""

_ALSO_SIGNED = ("content-md5", "content-type", "host")


def encode(text: str, *, keep_slash: bool = False) -> str:
    """UTF-8, percent-encoded: all but letters, digits and ``-._~`` (and ``/`` where it is kept)."""
    return quote(text, safe="-._~/" if keep_slash else "-._~")


def timestamp(now: float) -> str:
    """Unix seconds as ``YYYY-MM-DDThh:mm:ssZ``, the fraction dropped."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def names_to_sign(headers: Mapping[str, str]) -> list[str]:
    """Lower-case names of the headers that belong in the list: host, MD5, type, and every ``x-bce-`` one.

    A header without a value takes no part in the signature, so it is not listed either.
    """
    names = {name.strip().lower() for name, value in headers.items() if value.strip()}
    return sorted(name for name in names if name in _ALSO_SIGNED or name.startswith("x-bce-"))


def canonical_query(query: Iterable[tuple[str, str]]) -> str:
    """``name=value`` items, encoded, then sorted as whole strings: ``a-b=2`` stands before ``a=1``."""
    return "&".join(
        sorted(f"{encode(name)}={encode(value)}" for name, value in query if name.lower() != "authorization")
    )


def canonical_headers(headers: Mapping[str, str], names: Iterable[str]) -> str:
    """``name:value`` lines of the headers named (lower-case), encoded, sorted as whole lines."""
    wanted = set(names)
    trimmed = ((name.strip().lower(), value.strip()) for name, value in headers.items())
    return "\n".join(
        sorted(f"{encode(name)}:{encode(value)}" for name, value in trimmed if name in wanted and value)
    )


def canonical_request(
    method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], names: Iterable[str]
) -> str:
    """The text that is signed. `path` is already percent-encoded, as it goes on the wire."""
    return "\n".join((method.upper(), path or "/", canonical_query(query), canonical_headers(headers, names)))


def authorization(
    canonical: str,
    names: Iterable[str],
    credentials: Credentials,
    now: float,
    life_seconds: int = LIFE_SECONDS,
) -> str:
    """The value of the Authorization header for a canonical request made with the same `names`."""
    prefix = f"bce-auth-v1/{credentials.access_key_id}/{timestamp(now)}/{life_seconds}"
    signing_key = _hmac_hex(credentials.secret_access_key, prefix)
    return f"{prefix}/{';'.join(names)}/{_hmac_hex(signing_key, canonical)}"


def _hmac_hex(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()

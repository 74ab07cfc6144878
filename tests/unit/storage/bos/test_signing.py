"""Signatures of BOS: those of the vendor's SDKs."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.storage.bos import signing as bos_sign
from syncd.storage.http.messages import Credentials
from tests.unit.storage.bos.bos_answers import META, PUT, bos, refusal

with open(os.path.join(os.path.dirname(__file__), "bos_auth_vectors.json"), encoding="utf-8") as _file:
    _DATA = json.load(_file)
VECTORS = {vector["name"]: vector for vector in _DATA["vectors"]}
PRESIGNED = {vector["name"]: vector for vector in _DATA["presigned"]}
NOW = 1430123029.75
KEYS = Credentials("AK", "SK")


def _signed_names(vector: dict) -> list[str]:
    if vector["headers_to_sign"] is not None:
        return vector["headers_to_sign"]
    default = {"host", "content-length", "content-type", "content-md5"}
    names = {name.strip().lower() for name in vector["headers"]}
    return sorted(name for name in names if name in default or name.startswith("x-bce-"))


@pytest.mark.parametrize("name", VECTORS)
def test_a_signature_is_that_of_the_vendors_sdks(name: str) -> None:
    """Canonical request and signature of every published vector come out to the byte."""
    vector = VECTORS[name]
    names = _signed_names(vector)
    path = bos_sign.encode(vector["path"], keep_slash=True)
    headers = {name.strip().lower(): value for name, value in vector["headers"].items()}
    canonical = bos_sign.canonical_request(vector["method"], path, vector["params"].items(), headers, names)
    assert vector["canonical_request"] == canonical
    keys = Credentials(vector["ak"], vector["sk"])
    value = bos_sign.authorization(canonical, names, keys, vector["timestamp"], vector["expiration"])
    expected = vector["expected_authorization"]
    if vector["headers_to_sign"] is None:
        # The vector leaves the list of headers out; the signature does not depend on the list.
        assert expected.rpartition("/")[2] == value.rpartition("/")[2]
        assert expected.split("/")[:4] == value.split("/")[:4]
    else:
        assert expected == value


@pytest.mark.parametrize("name", PRESIGNED)
def test_a_presigned_address_is_signed_by_the_same_rules(name: str) -> None:
    """The vendor's presigned URLs hold the signature of host and query."""
    vector = PRESIGNED[name]
    host = f"{vector['bucket']}.bj.bcebos.com"
    query = dict(vector["params"])
    if vector["security_token"]:
        query["x-bce-security-token"] = vector["security_token"]
    path = bos_sign.encode(f"/{vector['key']}", keep_slash=True)
    canonical = bos_sign.canonical_request(vector["method"], path, query.items(), {"host": host}, ["host"])
    keys = Credentials(vector["ak"], vector["sk"])
    value = bos_sign.authorization(canonical, ["host"], keys, vector["timestamp"], vector["expiration"])
    found = re.search(r"authorization=([^&]+)", vector["expected_url"])
    assert found is not None
    assert found[1].rpartition("%2F")[2] == quote(value, safe="").rpartition("%2F")[2]


def test_a_signed_request_lists_host_md5_type_and_every_bce_header() -> None:
    """The list is written out, without Content-Length and Range, so that nothing on the way can break it."""
    request = bos().put_request("a b", b"hello", META)
    signed = bos().sign(replace(request, headers={**request.headers, "Range": "bytes=0-1"}), KEYS, NOW)
    value = signed.headers["Authorization"]
    assert value.startswith("bce-auth-v1/AK/2015-04-27T08:23:49Z/1800/")
    expected = (
        "content-md5;content-type;host;x-bce-date;x-bce-meta-mtime;x-bce-meta-syncd-upload;"
        "x-bce-meta-syncd-xxh128"
    )
    assert expected == value.split("/")[4]


def test_a_session_token_travels_as_a_signed_header() -> None:
    """With temporary keys the token is sent, and is among the signed headers."""
    signed = bos().sign(bos().head_request("k"), Credentials("AK", "SK", "to+ken=="), NOW)
    assert signed.headers["x-bce-security-token"] == "to+ken=="
    assert signed.headers["Authorization"].split("/")[4] == "host;x-bce-date;x-bce-security-token"


def test_signing_again_replaces_date_and_signature() -> None:
    """A repeated request is signed for the new time, whatever it was signed with before."""
    once = bos().sign(bos().head_request("k"), KEYS, NOW)
    again = bos().sign(once, KEYS, NOW + 3600)
    assert again.headers["x-bce-date"] == "2015-04-27T09:23:49Z"
    assert again == bos().sign(bos().head_request("k"), KEYS, NOW + 3600)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_every_key_is_signed_as_it_goes_on_the_wire(key: str) -> None:
    """The path of a request is its own canonical form: encoded once, slashes kept."""
    path = "/" + bos_sign.encode(key, keep_slash=True)
    assert re.fullmatch(r"(?:[A-Za-z0-9\-._~/]|%[0-9A-F]{2})+", path)
    assert bos_sign.canonical_request("GET", path, (), {}, ()).split("\n")[1] == path


def test_no_secret_shows_in_what_is_printed() -> None:
    """Neither the signed request nor an error shows the secret key."""
    signed = bos().sign(PUT, Credentials("AK", "very-secret", "token"), NOW)
    assert "very-secret" not in repr(signed)
    assert "very-secret" not in str(bos().error(signed, refusal(403, "SignatureDoesNotMatch")))

"""Signatures of S3: those of published examples, of botocore, and what is never shown."""

from __future__ import annotations

import hashlib

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from syncd.storage.http.http1 import target
from syncd.storage.http.messages import Credentials, Request
from syncd.storage.s3.signing import EMPTY_SHA256, Signer, encode_path
from tests.unit.storage.s3.s3_wire import META, dialect, text

SUITE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
DOCUMENTED = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
UNRESERVED = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = {"content-type": "application/x-www-form-urlencoded"}
SUITE_VECTORS = {
    "get-vanilla": (
        "GET",
        "/",
        [],
        {},
        b"",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-query-order-key-case": (
        *("GET", "/", [("Param2", "value2"), ("Param1", "value1")], {}, b""),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-empty-query-key": (
        *("GET", "/", [("Param1", "value1")], {}, b""),
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-utf8": (
        "GET",
        "/ሴ",
        [],
        {},
        b"",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-unreserved": (
        *("GET", UNRESERVED, [], {}, b""),
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "post-vanilla": (
        "POST",
        "/",
        [],
        {},
        b"",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-header-key-sort": (
        *("POST", "/", [], {"My-Header1": "value1"}, b""),
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-x-www-form-urlencoded": (
        *("POST", "/", [], FORM, b"Param1=value1"),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", SUITE_VECTORS)
def test_signatures_are_those_of_the_published_suite(name: str) -> None:
    """AWS's own test vectors for version 4."""
    method, path, query, headers, body, signature = SUITE_VECTORS[name]
    sent = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z", **headers}
    made = Signer("us-east-1", "service").authorization(
        method, encode_path(path), query, sent, hashlib.sha256(body).hexdigest(), SUITE
    )
    assert made.rpartition("Signature=")[2] == signature


WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
S3_EXAMPLES: dict[str, tuple[str, str, list[tuple[str, str]], dict[str, str], str, str]] = {
    "get a range": (
        *("GET", "/test.txt", [], {"Range": "bytes=0-9"}, EMPTY_SHA256),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put": (
        *("PUT", "/test$file.text", []),
        {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        WELCOME,
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "get the lifecycle": (
        *("GET", "/", [("lifecycle", "")], {}, EMPTY_SHA256),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list": (
        *("GET", "/", [("max-keys", "2"), ("prefix", "J")], {}, EMPTY_SHA256),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", S3_EXAMPLES)
def test_signatures_are_those_of_the_documented_examples(name: str) -> None:
    """The four requests of the S3 developer's documentation."""
    method, path, query, headers, payload_hash, signature = S3_EXAMPLES[name]
    sent = {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": payload_hash,
        **headers,
    }
    made = Signer("us-east-1").authorization(method, encode_path(path), query, sent, payload_hash, DOCUMENTED)
    assert made.rpartition("Signature=")[2] == signature


@given(
    key=text,
    query=st.dictionaries(text, st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=4),
    token=st.sampled_from(["", "session/token+=="]),
    now=st.integers(0, 4_000_000_000),
)
def test_signatures_are_those_of_botocore(key: str, query: dict[str, str], token: str, now: int) -> None:
    """For any key, query and moment, a second signer agrees about what goes on the wire."""
    signing = dialect()
    request = Request("PUT", "127.0.0.1:9000", "/photos/" + encode_path(key), tuple(query.items()), body=b"x")
    signed = signing.sign(request, Credentials("AKID", "secret", token), now)
    theirs = AWSRequest(
        method="PUT",
        url=f"http://127.0.0.1:9000{target(request)}",
        headers={"x-amz-content-sha256": signed.headers["x-amz-content-sha256"]},
        data=b"",
    )
    theirs.context["timestamp"] = signed.headers["x-amz-date"]
    auth = S3SigV4Auth(BotoCredentials("AKID", "secret", token or None), "s3", "us-east-1")
    theirs.headers["X-Amz-Date"] = signed.headers["x-amz-date"]
    if token:
        theirs.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(theirs)
    signature = auth.signature(auth.string_to_sign(theirs, canonical), theirs)
    assert signed.headers["Authorization"].rpartition("Signature=")[2] == signature


def test_the_key_of_the_day_is_made_anew_when_it_must_be() -> None:
    """Another day or another secret gives what a fresh signer gives."""
    signer = Signer("us-east-1")
    for day, secret in (("20260101", "a"), ("20260102", "a"), ("20260102", "b"), ("20260101", "a")):
        headers = {"host": "h", "x-amz-date": f"{day}T000000Z"}
        arguments = ("GET", "/", [], headers, EMPTY_SHA256, Credentials("AKID", secret))
        assert signer.authorization(*arguments) == Signer("us-east-1").authorization(*arguments)


def test_a_session_token_is_sent_and_signed() -> None:
    """Without it in the signature the server refuses."""
    signed = dialect().sign(dialect().head_request("k"), Credentials("AKID", "secret", "tok"), 1e9)
    assert signed.headers["x-amz-security-token"] == "tok"
    assert "x-amz-security-token" in signed.headers["Authorization"]


def test_no_secret_is_shown() -> None:
    """Neither keys nor tokens nor signatures in a repr that a log may hold."""
    signed = dialect().sign(
        dialect().put_request("k", b"content", META), Credentials("AKIDX", "s3cr3t", "t0k3n"), 1e9
    )
    shown = repr(signed) + repr(Credentials("AKIDX", "s3cr3t", "t0k3n")) + repr(dialect())
    assert [word for word in ("AKIDX", "s3cr3t", "t0k3n", "Signature=", "content") if word in shown] == []

"""Requests know what they carry, and show no secret."""

from __future__ import annotations

import pytest

from syncd.storage.http.messages import Credentials, Request


@pytest.mark.parametrize(
    ("method", "slow_answer", "content"),
    [("PUT", False, True), ("PUT", True, False), ("POST", True, False), ("GET", False, False)],
)
def test_puts_and_parts_carry_content(method: str, slow_answer: bool, content: bool) -> None:
    """A copy is a PUT with a slow answer: its content stays in the store."""
    assert Request(method, "h", "/", slow_answer=slow_answer).carries_content is content


@pytest.mark.parametrize(
    ("method", "slow_answer", "headers", "operation"),
    [
        ("PUT", False, {}, "put"),
        ("PUT", True, {}, "copy"),
        ("GET", False, {}, "list"),
        ("GET", False, {"Range": "bytes=0-1"}, "get"),
        ("HEAD", False, {}, "head"),
        ("POST", True, {}, "post"),
        ("DELETE", False, {}, "delete"),
    ],
)
def test_a_request_knows_what_it_is_billed_as(
    method: str, slow_answer: bool, headers: dict[str, str], operation: str
) -> None:
    """In words for a metric."""
    assert Request(method, "h", "/", headers=headers, slow_answer=slow_answer).operation == operation


@pytest.mark.parametrize("name", ["Range", "range"])
def test_gets_of_ranges_carry_content(name: str) -> None:
    """By the thousand in a restore; a listing is a GET without a range."""
    assert Request("GET", "h", "/", headers={name: "bytes=0-1"}).carries_content


def test_nothing_secret_is_shown() -> None:
    """Neither keys nor the headers of a signed request."""
    shown = repr(Credentials("AKIDX", "s3cr3t", "t0ken"))
    shown += repr(Request("PUT", "h", "/", headers={"Authorization": "s3cr3t"}, body=b"s3cr3t"))
    assert [word for word in ("AKIDX", "s3cr3t", "t0ken") if word in shown] == []

"""What refusals of BOS mean."""

from __future__ import annotations

import pytest

from syncd.core.errors import (
    AccessRefused,
    PartsRefused,
    StoreError,
    StoreUnavailable,
)
from syncd.storage.http.messages import Response
from tests.unit.storage.bos.bos_answers import COMPLETE, PART, PUT, REQUEST_ID, answer, bos, refusal


def test_a_refusal_keeps_what_bos_says() -> None:
    """Code, status, words and request id; what each code means is in `tests/contract/test_answers.py`."""
    found = bos().error(PART, refusal(403, "SignatureDoesNotMatch", "said so"))
    assert isinstance(found, AccessRefused)
    assert (found.status, found.code, found.request_id) == (403, "SignatureDoesNotMatch", REQUEST_ID)
    assert "said so" in str(found)
    found = bos().error(PART, refusal(502, "SomethingNew"))
    assert isinstance(found, StoreUnavailable)
    assert found.outcome_unknown
    found = bos().error(COMPLETE, refusal(400, "EntityTooSmall"))
    assert isinstance(found, PartsRefused)
    assert found.too_small


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, StoreUnavailable), (404, StoreUnavailable), (200, StoreUnavailable), (502, StoreUnavailable)],
)
def test_a_page_of_html_is_not_taken_for_bos(status: int, error: type[StoreError]) -> None:
    """A proxy that answers in BOS's place must not make us believe that an upload or an object is gone."""
    page = answer(status, b"<html><h1>Blocked</h1></html>", content_type="text/html")
    found = bos().error(PART, page)
    assert type(found) is error
    assert "does not come from the store" in str(found)


def test_an_answer_of_s3_names_the_other_type() -> None:
    """Behind a domain of its own the host does not tell which of the two it is."""
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
    found = bos().error(PART, Response(403, {"x-amz-request-id": "r"}, body))
    assert "set `type: s3`" in str(found)


@pytest.mark.parametrize("message", ["The request rate is too high", "Too many requests", "visit frequently"])
def test_access_denied_for_its_rate_is_not_denied_for_good(message: str) -> None:
    """BOS uses AccessDenied for too many requests as well; the text tells."""
    assert type(bos().error(PUT, refusal(403, "AccessDenied", message))) is StoreUnavailable


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "InvalidURI"])
def test_a_refused_path_style_request_says_so(code: str) -> None:
    """Buckets made since June 2024 take no path style: the store is paused, with that as the hint."""
    found = bos(path_style=True).error(PUT, refusal(403, code))
    assert isinstance(found, AccessRefused)
    assert not found.credentials
    assert "path_style" in str(found)
    assert "path_style" not in str(bos().error(PUT, refusal(403, code)))


def test_the_request_id_comes_from_header_or_body() -> None:
    """Whatever BOS's support will ask for is in the message."""
    response = Response(403, {}, b'{"code":"AccessDenied","message":"no","requestId":"from-the-body"}')
    found = bos().error(PUT, response)
    assert "[request from-the-body]" in str(found)


def test_text_from_the_server_is_made_fit_for_a_log() -> None:
    """Control characters and endless messages do not reach the log."""
    found = bos().error(PUT, refusal(403, "Access\x1b[31m", "line\nline" + "x" * 10_000))
    assert "\n" not in str(found)
    assert "\x1b" not in str(found)
    assert len(str(found)) < 1000

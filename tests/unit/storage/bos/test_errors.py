"""What refusals of BOS mean."""

from __future__ import annotations

import pytest

from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    QuotaExceeded,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.storage.http.messages import Response
from tests.unit.storage.bos.bos_answers import COMPLETE, PART, PUT, REQUEST_ID, answer, bos, refusal

REACTIONS = [
    # status, code, class, attributes
    (403, "SignatureDoesNotMatch", AccessRefused, {"credentials": True}),
    (403, "InvalidAccessKeyId", AccessRefused, {"credentials": True}),
    (400, "InvalidSessionToken", AccessRefused, {"credentials": True}),
    (400, "InvalidHTTPAuthHeader", AccessRefused, {"credentials": True}),
    (403, "AccountOverdue", AccessRefused, {"credentials": False}),
    (404, "NoSuchBucket", AccessRefused, {"credentials": False}),
    (400, "InvalidBucketName", AccessRefused, {"credentials": False}),
    (403, "BucketQuotaExceeded", QuotaExceeded, {}),
    (403, "AccessDenied", StoreRefused, {}),
    (403, "RequestTimeTooSkewed", StoreUnavailable, {"outcome_unknown": False}),
    (400, "RequestExpired", StoreUnavailable, {"outcome_unknown": False}),
    (400, "RequestTimeout", StoreUnavailable, {"outcome_unknown": False}),
    (408, "RequestTimeout", StoreUnavailable, {"outcome_unknown": False}),
    (400, "ReadBodyError", StoreUnavailable, {"outcome_unknown": False}),
    (400, "Http400", StoreUnavailable, {"outcome_unknown": False}),
    (429, "RequestRateLimitExceeded", StoreUnavailable, {"outcome_unknown": False}),
    (503, "ServiceUnavailable", StoreUnavailable, {"outcome_unknown": False}),
    (503, "SlowDown", StoreUnavailable, {"outcome_unknown": False}),
    (500, "InternalError", StoreFailed, {"outcome_unknown": True}),
    (502, "SomethingNew", StoreUnavailable, {"outcome_unknown": True}),
    (404, "NoSuchUpload", UploadGone, {}),
    (400, "BadDigest", PartCorrupt, {}),
    (400, "InvalidDigest", PartCorrupt, {}),
    (400, "EntityTooSmall", PartsRefused, {"too_small": True}),
    (400, "InvalidPart", PartsRefused, {"too_small": False}),
    (400, "InvalidPartOrder", PartsRefused, {"too_small": False}),
    (412, "PreconditionFailed", PreconditionFailed, {}),
    (404, "NoSuchKey", UploadGone, {}),
    (400, "EntityTooLarge", StoreRefused, {}),
    (400, "MetadataTooLarge", StoreRefused, {}),
    (400, "InvalidObjectName", StoreRefused, {}),
    (400, "InvalidArgument", StoreRefused, {}),
    (400, "MalformedJSON", StoreRefused, {}),
    (411, "MissingContentLength", StoreRefused, {}),
    (405, "MethodNotAllowed", StoreRefused, {}),
    (409, "ObjectImmutable", StoreRefused, {}),
    (416, "InvalidRange", StoreRefused, {}),
    (501, "NotImplemented", StoreRefused, {}),
]


@pytest.mark.parametrize(
    ("status", "code", "error", "attributes"), REACTIONS, ids=[f"{row[1]}-{row[0]}" for row in REACTIONS]
)
def test_every_code_has_one_reaction(
    status: int, code: str, error: type[StoreError], attributes: dict[str, object]
) -> None:
    """The code decides which error of ours it is; status, code and request id are kept."""
    found = bos().error(PART, refusal(status, code, "said so"))
    assert type(found) is error
    assert isinstance(found, StoreError)
    assert {name: getattr(found, name) for name in attributes} == attributes
    assert (found.status, found.code, found.request_id) == (status, code, REQUEST_ID)
    assert "said so" in str(found)


@pytest.mark.parametrize(
    ("status", "error", "attributes"),
    [
        (301, AccessRefused, {"credentials": False}),
        (307, AccessRefused, {"credentials": False}),
        (400, StoreRefused, {}),
        (401, AccessRefused, {"credentials": True}),
        (403, StoreRefused, {}),
        (404, UploadGone, {}),
        (407, AccessRefused, {"credentials": False}),
        (408, StoreUnavailable, {"outcome_unknown": False}),
        (412, PreconditionFailed, {}),
        (418, StoreRefused, {}),
        (429, StoreUnavailable, {"outcome_unknown": False}),
        (500, StoreFailed, {"outcome_unknown": True}),
        (501, StoreRefused, {}),
        (502, StoreUnavailable, {"outcome_unknown": True}),
        (503, StoreUnavailable, {"outcome_unknown": False}),
        (504, StoreUnavailable, {"outcome_unknown": True}),
        (520, StoreUnavailable, {"outcome_unknown": True}),
    ],
)
def test_an_error_without_body_is_judged_by_its_status(
    status: int, error: type[StoreError], attributes: dict[str, object]
) -> None:
    """Answers to HEAD have no body, and gateways send none or not BOS's."""
    found = bos().error(PART, answer(status))
    assert type(found) is error
    assert {name: getattr(found, name) for name in attributes} == attributes


def test_a_bare_404_is_no_upload_only_where_an_upload_was_asked_for() -> None:
    """Without an upload id in the request it is the object that is missing."""
    assert type(bos().error(bos().get_request("k", 0, 1), answer(404))) is StoreRefused


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, StoreUnavailable), (404, StoreUnavailable), (200, StoreUnavailable), (502, StoreUnavailable)],
)
def test_a_page_of_html_is_not_taken_for_bos(status: int, error: type[StoreError]) -> None:
    """A proxy that answers in BOS's place must not make us believe that an upload or an object is gone."""
    page = answer(status, b"<html><h1>Blocked</h1></html>", content_type="text/html")
    found = bos().error(PART, page)
    assert type(found) is error
    assert "not the store's" in str(found)


def test_an_answer_of_s3_names_the_other_type() -> None:
    """Behind a domain of its own the host does not tell which of the two it is."""
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
    found = bos().error(PART, Response(403, {"x-amz-request-id": "r"}, body))
    assert "set `type: s3`" in str(found)


@pytest.mark.parametrize("message", ["The request rate is too high", "Too many requests", "visit frequently"])
def test_access_denied_for_its_rate_is_not_denied_for_good(message: str) -> None:
    """BOS uses AccessDenied for too many requests as well; the text tells."""
    assert type(bos().error(PUT, refusal(403, "AccessDenied", message))) is StoreUnavailable


def test_a_digest_refused_at_complete_is_about_all_parts() -> None:
    """Repeating complete would not help: the parts themselves make another object."""
    found = bos().error(COMPLETE, refusal(400, "BadDigest"))
    assert isinstance(found, PartsRefused)
    assert not found.too_small


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

"""What refusals of S3 servers mean."""

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
from syncd.core.model import Part
from syncd.storage.http.errors import CODES
from syncd.storage.http.messages import Request, Response
from tests.unit.storage.s3.s3_wire import BODY, META, STORE, refusal

PUT = STORE.put_request("k", BODY, META)
PART = STORE.part_request("k", "u", 1, BODY)
LIST_PARTS = STORE.parts_request("k", "u", 0)
COMPLETE = STORE.complete_request("k", "u", [Part(1, 1, "e")], META)
PART_COPY = STORE.part_copy_request("k", "u", 1, "s", 0, 9, "e")
UPLOADS = STORE.uploads_request("", None)
ERRORS: list[tuple[Request, int, str, type[StoreError]]] = [
    (PUT, 400, "RequestTimeout", StoreUnavailable),
    (PUT, 400, "IncompleteBody", StoreUnavailable),
    (PUT, 503, "SlowDown", StoreUnavailable),
    (PUT, 500, "InternalError", StoreFailed),
    (PUT, 403, "RequestTimeTooSkewed", StoreUnavailable),
    (PUT, 409, "OperationAborted", StoreUnavailable),
    (PUT, 400, "ThrottlingException", StoreUnavailable),
    (PUT, 408, "", StoreUnavailable),
    (PUT, 429, "", StoreUnavailable),
    (PUT, 500, "", StoreFailed),
    (PUT, 502, "", StoreUnavailable),
    (PUT, 503, "", StoreUnavailable),
    (PUT, 504, "", StoreUnavailable),
    (PUT, 520, "", StoreUnavailable),
    (PUT, 403, "InvalidAccessKeyId", AccessRefused),
    (PUT, 403, "SignatureDoesNotMatch", AccessRefused),
    (PUT, 400, "ExpiredToken", AccessRefused),
    (PUT, 400, "InvalidToken", AccessRefused),
    (PUT, 404, "NoSuchBucket", AccessRefused),
    (PUT, 401, "", AccessRefused),
    (PUT, 507, "", QuotaExceeded),
    (UPLOADS, 403, "AccessDenied", AccessRefused),
    (PUT, 403, "AccessDenied", StoreRefused),
    (PUT, 403, "", StoreRefused),
    (PUT, 403, "SomethingNew", StoreRefused),
    (PUT, 400, "KeyTooLongError", StoreRefused),
    (PUT, 400, "EntityTooLarge", StoreRefused),
    (PUT, 400, "InvalidArgument", StoreRefused),
    (PUT, 501, "NotImplemented", StoreRefused),
    (PART, 501, "NotImplemented", StoreRefused),
    (PUT, 501, "", StoreRefused),
    (PUT, 418, "", StoreRefused),
    (PUT, 400, "BadDigest", PartCorrupt),
    (PART, 400, "XAmzContentSHA256Mismatch", PartCorrupt),
    (PUT, 412, "PreconditionFailed", PreconditionFailed),
    (PUT, 412, "", PreconditionFailed),
    (PART, 404, "NoSuchUpload", UploadGone),
    (LIST_PARTS, 404, "NoSuchUpload", UploadGone),
    (LIST_PARTS, 404, "NoSuchKey", UploadGone),
    (COMPLETE, 404, "NoSuchKey", UploadGone),
    (PART, 404, "", UploadGone),
    (PART, 404, "NoSuchBucket", AccessRefused),
    (PART_COPY, 404, "NoSuchKey", StoreRefused),
    (PART_COPY, 404, "NoSuchUpload", UploadGone),
    (COMPLETE, 400, "EntityTooSmall", PartsRefused),
    (COMPLETE, 400, "InvalidPart", PartsRefused),
    (COMPLETE, 400, "InvalidPartOrder", PartsRefused),
]


@pytest.mark.parametrize(("request_", "status", "code", "expected"), ERRORS)
def test_an_error_is_what_its_code_says_or_else_its_status(
    request_: Request, status: int, code: str, expected: type[StoreError]
) -> None:
    """One reaction for each."""
    error = STORE.error(request_, refusal(status, code))
    assert type(error) is expected
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize("code", CODES)
def test_every_known_code_makes_its_error_whatever_the_status(code: str) -> None:
    """The code decides; and who has to act is told how."""
    error = STORE.error(PUT, refusal(400, code))
    assert type(error) is CODES[code].error
    assert not isinstance(error, AccessRefused) or error.hint


@pytest.mark.parametrize(
    ("status", "code", "unknown"),
    [
        (500, "", True),
        (502, "", True),
        (504, "", True),
        (500, "InternalError", True),
        (503, "SlowDown", False),
    ],
)
def test_an_error_says_whether_it_may_have_been_done(status: int, code: str, unknown: bool) -> None:
    """A gateway that gave up knows nothing about the store behind it."""
    error = STORE.error(PUT, refusal(status, code))
    assert isinstance(error, StoreUnavailable)
    assert error.outcome_unknown is unknown


def test_an_error_tells_what_support_would_ask_for() -> None:
    """Code, status, the store's words, and the id of the request."""
    shown = str(STORE.error(PUT, refusal(403, "AccessDenied")))
    assert all(word in shown for word in ("403", "AccessDenied", "no", "r1"))


@pytest.mark.parametrize("body", [b"<html>403</html>", b"\xff\xfe", b"<Error><Code>", b"{}", bytes(9 << 20)])
def test_an_error_page_of_somebody_else_is_judged_by_its_status(body: bytes) -> None:
    """A proxy's words are not the store's."""
    assert type(STORE.error(PUT, Response(503, {}, body))) is StoreUnavailable


def test_a_head_that_somebody_else_answers_tells_nothing() -> None:
    """A captive portal's 200 has a length and no ETag."""
    headers = {"content-type": "text/html; charset=utf-8", "content-length": "95"}
    with pytest.raises(StoreUnavailable):
        STORE.head_result("k", STORE.head_request("k"), Response(200, headers, b""))


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_page_of_somebody_else_is_no_word_of_the_store(status: int) -> None:
    """A firewall on the way does not know what these keys may do, nor what is there."""
    for request in (PUT, STORE.abort_request("k", "u"), STORE.uploads_request("k", None)):
        found = STORE.error(request, Response(status, {}, b"<html><h1>Blocked</h1></html>"))
        assert type(found) is StoreUnavailable
        assert "not the store's" in str(found)


def test_a_404_of_somebody_else_does_not_make_an_upload_gone() -> None:
    """Its parts would be sent again, and the old ones stay in the store."""
    request = STORE.part_request("k", "u", 1, BODY)
    for body in (
        b"<html><h1>Not Found</h1></html>",
        b"<!doctype html><p>Nothing here<br>",
        b"404 page not found",
    ):
        assert type(STORE.error(request, Response(404, {}, body))) is StoreUnavailable
    assert type(STORE.error(request, Response(404, {}))) is UploadGone
    assert type(STORE.error(request, refusal(404, "NoSuchUpload"))) is UploadGone


def test_an_answer_of_bos_names_the_other_type() -> None:
    """Behind a domain of its own the host does not tell which of the two it is."""
    answer = Response(400, {"x-bce-request-id": "r"}, b'{"code":"InvalidHTTPAuthHeader"}')
    found = STORE.error(PUT, answer)
    assert "set `type: bos`" in str(found)

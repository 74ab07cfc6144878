"""What refusals of S3 servers mean."""

from __future__ import annotations

import pytest

from syncd.core.errors import (
    StoreUnavailable,
    UploadGone,
)
from syncd.storage.http.messages import Response
from tests.unit.storage.s3.s3_wire import BODY, META, STORE, refusal

PUT = STORE.put_request("k", BODY, META)
PART = STORE.part_request("k", "u", 1, BODY)


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
        assert "does not come from the store" in str(found)


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

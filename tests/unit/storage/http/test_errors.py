"""What refusals and failures become: one error of ours each, with what support would ask for."""

from __future__ import annotations

import pytest

from syncd.core.errors import AccessRefused, ConnectionLost, PartsRefused, StoreUnavailable
from syncd.storage.http.deadlines import Stalled
from syncd.storage.http.errors import (
    Facts,
    Refusal,
    keys,
    later,
    lost,
    place,
    refused,
    retry_after_seconds,
)
from syncd.storage.http.messages import Response

LATE, EARLY = "Mon, 01 Jan 2029 00:00:30 GMT", "Mon, 01 Jan 2029 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "9" * 400}, 999_999_999.0),
        ({"retry-after": LATE, "date": EARLY}, 30.0),
        ({"retry-after": EARLY, "date": LATE}, 0.0),
        ({"retry-after": LATE}, None),
        ({"retry-after": LATE, "date": "soon"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_the_wish_of_the_store_is_heard(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, or a moment by the store's own clock."""
    assert retry_after_seconds(headers) == seconds
    error = refused(later("not now"), Response(503, headers), Facts())
    assert isinstance(error, StoreUnavailable)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(("refusal", "blamed"), [(keys("no", ""), True), (place("no", ""), False)])
def test_keys_are_blamed_only_where_they_are_to_blame(refusal: Refusal, blamed: bool) -> None:
    """The exit code tells the two apart."""
    error = refused(refusal, Response(403, {}), Facts())
    assert isinstance(error, AccessRefused)
    assert error.credentials is blamed


def test_a_refusal_keeps_what_it_says_about_itself() -> None:
    """Status, code, the store's words, the request's id, the hint; and that parts are too small."""
    refusal = Refusal(PartsRefused, "too small", "use larger parts", too_small=True)
    error = refused(refusal, Response(400, {}), Facts("EntityTooSmall", "no", "r1"))
    assert isinstance(error, PartsRefused)
    assert error.too_small
    assert str(error) == "too small: no (400 EntityTooSmall) [request r1]; use larger parts"


@pytest.mark.parametrize(("reused", "wish"), [(True, 0.0), (False, None)])
def test_an_old_connection_that_died_is_replaced_at_once(reused: bool, wish: float | None) -> None:
    """The server has probably closed it for its age; whether the request was done is unknown either way."""
    error = lost("h", ConnectionResetError(104, "reset"), reused=reused)
    assert isinstance(error, ConnectionLost)
    assert (error.retry_after_seconds, error.outcome_unknown) == (wish, True)
    assert not isinstance(lost("h", Stalled("silence"), reused=reused), ConnectionLost)

"""The little arithmetic that the nouns do on themselves."""

from __future__ import annotations

from syncd.core.model import FileStat, Fingerprint, Recorded

CONTENT = Fingerprint(bytes(range(16)), 5)


def test_a_fingerprint_is_shown_as_xxh128sum_prints_it() -> None:
    assert CONTENT.hex == "000102030405060708090a0b0c0d0e0f"


def test_a_row_without_an_etag_is_in_doubt() -> None:
    rows = [Recorded(FileStat(1, 2, 3, 4, 5), CONTENT, "store", "key", etag, 6) for etag in ("", "e")]
    assert [row.in_doubt for row in rows] == [True, False]

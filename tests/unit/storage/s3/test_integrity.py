"""Which digests the settings of a bucket allow, and which of them is used."""

from __future__ import annotations

import pytest

from syncd.storage.s3.bucket import Bucket
from syncd.storage.s3.integrity import CRC32, HASH, Integrity
from syncd.storage.settings import HttpSettings, S3Settings

AWS, R2, OTHER = "s3.us-east-1.amazonaws.com", "abc.r2.cloudflarestorage.com", "storage.example"


@pytest.mark.parametrize("lock", ["", "COMPLIANCE"])
@pytest.mark.parametrize("word", ["auto", "sha256", "md5", "crc32", "none"])
@pytest.mark.parametrize("host", [AWS, R2, OTHER])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_check_is_weaker_than_it_may_be(scheme: str, host: str, word: str, lock: str) -> None:
    """By itself CRC-32 only over TLS, nothing only over TLS, and a signed SHA-256 not for a lock."""
    settings = S3Settings(HttpSettings(f"{scheme}://{host}"), "photos", integrity=word, lock_mode=lock)
    made = Integrity(settings, Bucket(settings))
    if word == "auto":
        assert ("crc32" in made.checks) == (scheme == "https")
        assert "sha256" not in made.checks or not lock
        assert (len(made.checks) == 1) == (host == AWS or (bool(lock) and scheme == "http"))
    elif word == "none" and scheme == "https":
        assert made.checks == ()
    else:
        assert made.checks == ("sha256" if word == "none" else word,)
    # of the whole where it is known to be taken, or where the user says so; never on R2
    said = made.checks == ("crc32",) and (host == AWS or word == "crc32")
    assert made.declares == (said and host != R2)
    for check in ("", *made.checks, "crc32"):
        now = made.headers(b"hello", check)
        is_crc = CRC32 in now
        assert is_crc <= ("crc32" in made.checks)
        assert now.keys() != {HASH} or now[HASH] != "UNSIGNED-PAYLOAD" or made.checks == ()
    made.want_md5()
    assert "content-md5" in made.headers(b"hello", "crc32")

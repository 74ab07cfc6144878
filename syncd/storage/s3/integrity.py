"""How the server checks a body: which digests to send along, and the headers for each. Pure.

Over plain HTTP, and on servers not probed yet, the signed SHA-256 of the payload, which nearly every server
verifies. Over TLS the cheaper CRC-32, on AWS and if the server was found to verify it; never without TLS,
because an attacker can change a body and keep its CRC. MD5 only if the server verifies nothing else: it costs
the most.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import hashlib

from syncd.storage.base import Body
from syncd.storage.digests import crc32, once
from syncd.storage.s3 import bucket as values
from syncd.storage.s3.signing import UNSIGNED_PAYLOAD
from syncd.storage.settings import S3Settings

HASH = "x-amz-content-sha256"
CRC32 = "x-amz-checksum-crc32"


class Integrity:
    """The checks of one bucket. For several threads."""

    def __init__(self, settings: S3Settings, bucket: values.Bucket) -> None:
        signed = "md5" if settings.lock_mode else "sha256"  # a signed SHA-256 is not enough for a lock
        self.checks = _choose(settings.integrity, bucket, signed)
        """The checks that the settings allow, the cheapest first."""
        self.usual = self.checks[0] if len(self.checks) == 1 else signed if self.checks else "none"
        is_asked_for = settings.integrity == "crc32" and not bucket.is_r2
        self.declares = self.checks == ("crc32",) and (bucket.is_aws or is_asked_for)
        """Uploads begin with CRC-32 as their checksum, and complete with that of the whole. Otherwise AWS and
        compatible servers refuse parts with one. R2 takes only that of parts, and so may a server that was
        only found to verify that of a part."""

    def want_md5(self) -> None:
        """Use only MD5: the bucket takes nothing else."""
        self.checks, self.usual = ("md5",), "md5"

    def headers(self, body: Body, check: str = "") -> dict[str, str]:
        """Return the headers by which the server notices a changed body, for `check` if it is one of
        `checks`, else for the usual one.
        """
        return _headers(body, check if check in self.checks else self.usual)


@once
def _headers(body: Body, check: str) -> dict[str, str]:
    if check == "sha256":
        return {HASH: hashlib.sha256(body).hexdigest()}
    if check == "md5":
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return {HASH: UNSIGNED_PAYLOAD, "content-md5": base64.b64encode(digest).decode()}
    if check == "crc32":
        return {HASH: UNSIGNED_PAYLOAD, CRC32: values.crc32_text(crc32(body))}
    return {HASH: UNSIGNED_PAYLOAD}


def _choose(integrity: str, bucket: values.Bucket, signed: str) -> tuple[str, ...]:
    encrypted = bucket.scheme == "https"
    if integrity == "none":
        return () if encrypted else ("sha256",)  # without TLS nothing else notices a changed byte
    if integrity != "auto":
        return (integrity,)
    if bucket.is_aws:
        return ("crc32" if encrypted else signed,)
    checks = (signed, "md5") if signed != "md5" else ("md5",)
    return ("crc32", *checks) if encrypted else checks

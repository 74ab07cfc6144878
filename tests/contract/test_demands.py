"""What a bucket may demand reaches every object, whichever way it is made. Another client asks moto."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.storage.base import ObjectStore
from syncd.storage.opening import open_store
from tests.contract.subjects import context
from tests.contract.test_store_contract import meta_of
from tests.support.servers import S3Server

pytestmark = pytest.mark.real_server
BUCKET, BODY = "demanding", b"content"
KEY_ID = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def locks(verb: str) -> bool:
    """Whether retention is demanded, too: moto forgets it in an upload, and wants an MD5 for a copy."""
    return verb == "put"


@pytest.fixture
def store(moto_server: S3Server, *, locks: bool) -> Iterator[ObjectStore]:
    """A client whose settings say everything, on a bucket that keeps what it is told."""
    if BUCKET not in moto_server.buckets():
        moto_server.client().create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    settings = replace(
        moto_server.settings(BUCKET),
        sse="aws:kms",
        kms_key_id=KEY_ID,
        acl="public-read",
        lock_mode="GOVERNANCE" if locks else "",
        lock_seconds=86_400.0,
        request_payer=True,
    )
    store = open_store(settings, context())
    yield store
    store.close()


@pytest.mark.parametrize("verb", ["put", "complete", "copy", "copy onto itself"])
def test_every_object_has_what_the_settings_say(
    store: ObjectStore, moto_server: S3Server, verb: str, *, locks: bool
) -> None:
    """Encryption, its key, the ACL and the retention, also where the source of a copy has none of it."""
    key, meta, client = verb, meta_of(BODY), moto_server.client()
    if verb == "put":
        store.put_object(key, BODY, meta)
    elif verb == "complete":
        upload_id = store.create_multipart_upload(key, meta)
        store.complete_multipart_upload(key, upload_id, [store.upload_part(key, upload_id, 1, BODY)], meta)
    else:
        source = key if verb == "copy onto itself" else "plain"
        etag = client.put_object(Bucket=BUCKET, Key=source, Body=BODY)["ETag"].strip('"')
        store.copy_object(source, key, meta, etag)
    head: dict[str, Any] = client.head_object(Bucket=BUCKET, Key=key)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY_ID)
    grants = client.get_object_acl(Bucket=BUCKET, Key=key)["Grants"]
    assert "READ" in [grant["Permission"] for grant in grants if grant["Grantee"]["Type"] == "Group"]
    if locks:
        assert head["ObjectLockMode"] == "GOVERNANCE"
        left = head["ObjectLockRetainUntilDate"] - datetime.now(UTC)
        assert timedelta(hours=23) < left <= timedelta(days=1)

"""What `verify --deep` says of objects that a real server keeps, and that others wrote over."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.process import Syncd, s3_store
from tests.support.servers import S3Server

pytestmark = pytest.mark.real_server


def test_other_content_under_our_metadata_is_found(ceph_server: S3Server, tmp_path: Path) -> None:
    """Of the same size, copied with all metadata by another client: only a download tells. A large object,
    which went in parts, is right.
    """
    ceph_server.make_bucket("deep")
    chance = random.Random(1)
    (tmp_path / "folder").mkdir()
    for name, size in {"spoilt": 100_000, "good": 100_000, "large": (17 << 20) + 1}.items():
        (tmp_path / "folder" / name).write_bytes(chance.randbytes(size))
    source = {"name": "docs", "path": "./folder", "store": "there", "prefix": "p/"}
    syncd = Syncd(tmp_path, {"there": s3_store(ceph_server.settings("deep"))}, [source])
    try:
        syncd.command("sync")
        client, other = ceph_server.client(), chance.randbytes(100_000)
        meta = client.head_object(Bucket="deep", Key="p/spoilt")["Metadata"]
        client.put_object(Bucket="deep", Key="p/spoilt", Body=other, Metadata=meta)
        plain = syncd.command("verify", check=False)
        assert (plain.returncode, "note docs:spoilt" in plain.stdout) == (0, True)
        deep = syncd.command("verify", "--deep", check=False)
        assert (deep.returncode, deep.stdout.count("FAIL")) == (3, 1)
        assert "FAIL docs:spoilt: the object's content is not what was sent" in deep.stdout

        client.delete_object(Bucket="deep", Key="p/spoilt")
        syncd.command("verify", "--repair", check=False)
        syncd.command("sync")
        assert syncd.command("verify", "--deep").stdout.startswith("3 files compared, 0 serious")
    finally:
        syncd.close()

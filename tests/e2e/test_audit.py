"""What `verify --deep` says of objects that a real server keeps, and that others wrote over."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.process import Syncd, s3_store
from tests.support.servers import S3Server

pytestmark = pytest.mark.real_server


def test_other_content_under_our_metadata_is_found(ceph_server: S3Server, tmp_path: Path) -> None:
    """Of the same size, copied with all metadata by another client. Of a small object the MD5 tells; of one
    that went in parts only a download. Another one like that is right.
    """
    ceph_server.make_bucket("deep")
    chance = random.Random(1)
    (tmp_path / "folder").mkdir()
    for name, size in {"small": 100_000, "good": (17 << 20) + 1, "spoilt": (17 << 20) + 2}.items():
        (tmp_path / "folder" / name).write_bytes(chance.randbytes(size))
    source = {"name": "docs", "path": "./folder", "store": "there", "prefix": "p/"}
    syncd = Syncd(tmp_path, {"there": s3_store(ceph_server.settings("deep"))}, [source])
    client = ceph_server.client()

    def rewrite(name: str) -> None:
        info = client.head_object(Bucket="deep", Key=f"p/{name}")
        body = chance.randbytes(info["ContentLength"])
        client.put_object(Bucket="deep", Key=f"p/{name}", Body=body, Metadata=info["Metadata"])

    try:
        syncd.command("sync")
        rewrite("spoilt")
        plain = syncd.command("verify", check=False)
        assert (plain.returncode, "note docs:spoilt" in plain.stdout) == (0, True)
        deep = syncd.command("verify", "--deep", check=False)
        assert (deep.returncode, deep.stdout.count("FAIL")) == (3, 1)
        assert "FAIL docs:spoilt: the object's content is not what was sent" in deep.stdout
        rewrite("small")
        plain = syncd.command("verify", check=False)
        assert "FAIL docs:small: another program wrote the object" in plain.stdout

        for name in ("small", "spoilt"):
            client.delete_object(Bucket="deep", Key=f"p/{name}")
        syncd.command("verify", "--repair", check=False)
        syncd.command("sync")
        assert syncd.command("verify", "--deep").stdout.startswith("3 files compared, 0 serious")
    finally:
        syncd.close()

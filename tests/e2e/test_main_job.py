"""The main job: a large tree of real files to a real S3 server, compared by programs that are not ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import trees
from tests.e2e.process import Syncd, s3_store
from tests.support.compare import differences, differences_by_rclone, differences_in_keys
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import S3Server
from tests.support.shelves import BucketShelf

FILES = int(os.environ.get("SYNCD_E2E_FILES", "10000"))
BIG = 1 << 30
PREFIX = "tree/"


@pytest.fixture
def job(ceph_server: S3Server, tmp_path: Path) -> Iterator[tuple[Syncd, FaultProxy, str]]:
    """A folder, an empty bucket, and syncd between them, through the proxy."""
    bucket = "main-job"
    ceph_server.make_bucket(bucket)
    folder = tmp_path / "folder"
    folder.mkdir()
    source = {"name": "tree", "path": "./folder", "store": "ceph", "prefix": PREFIX}
    with FaultProxy(("127.0.0.1", ceph_server.port)) as proxy:
        store = s3_store(ceph_server.settings(bucket), proxy.port)
        syncd = Syncd(tmp_path, {"ceph": store}, [source])
        yield syncd, proxy, bucket
        syncd.close()
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.real_server
@pytest.mark.timeout(1200)
def test_a_large_tree_is_carried_once_and_never_again(
    job: tuple[Syncd, FaultProxy, str],
    ceph_server: S3Server,
    figure: Callable[[str, object], None],
) -> None:
    """Every byte of every file is in the bucket after one `sync`; the second one asks the store nothing."""
    syncd, proxy, bucket = job
    folder = syncd.root / "folder"
    (folder / "odd").mkdir()
    count = trees.write_odd(folder / "odd") + FILES + 2
    size = trees.write_many(folder / "many", FILES) + BIG
    trees.write_big(folder / "big", BIG)
    (folder / "empty").touch()

    first = syncd.measured("sync")
    sent, requests, connections = proxy.bytes_sent, proxy.ledger.targets, proxy.connections
    dry = syncd.command("sync", "--dry-run")
    second = syncd.measured("sync")

    assert "0 failed" in first.stdout
    assert "nothing to do; 0 bytes sent" in second.stdout
    assert dry.stdout == "nothing to do\n"
    assert (proxy.bytes_sent, proxy.connections) == (sent, connections)
    assert proxy.ledger.targets == requests

    shelf = BucketShelf(ceph_server, bucket)
    assert differences_in_keys(folder, shelf, PREFIX) == []
    assert differences(folder / "odd", shelf, f"{PREFIX}odd/") == []
    assert differences_by_rclone(folder, ceph_server, bucket, PREFIX, "--exclude", "/odd/**") == []
    assert sent < size + 4096 * len(requests)

    source = syncd.status()["sources"][0]
    assert source["files"] == {"recorded": count, "pending": 0, "in_flight": 0, "failed": 0}
    for name, value in {
        "files": count,
        "MiB in all": round(size / trees.MIB),
        "first sync: wall s": round(first.wall_seconds, 1),
        "first sync: cpu s": round(first.cpu_seconds, 1),
        "first sync: peak MiB": round(first.peak_rss_mib),
        "first sync: MiB on the wire": round(sent / trees.MIB),
        "first sync: requests": len(requests),
        "second sync: wall s": round(second.wall_seconds, 2),
        "second sync: cpu s": round(second.cpu_seconds, 2),
        "second sync: peak MiB": round(second.peak_rss_mib),
        "second sync: requests": len(proxy.ledger.targets) - len(requests),
    }.items():
        figure(name, value)

"""Buckets that other programs filled: what they sent is recorded, and next to nothing goes over the wire.

With ``SYNCD_SERVERS=all`` on every server that is known, also by aws, and in more sizes of parts.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from baidubce.auth.bce_credentials import BceCredentials
from baidubce.bce_client_configuration import BceClientConfiguration
from baidubce.services.bos.bos_client import BosClient
from boto3.s3.transfer import TransferConfig

from tests.conftest import REQUIRE_SERVERS
from tests.e2e.process import Syncd, bos_store, s3_store
from tests.support.bos_server import BosServer
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import EXAMINED, S3Server, find_program

pytestmark = pytest.mark.real_server

MIB = 1 << 20
SIZES = {"empty": 0, "small": 1_000, "sub/middle": 3 * MIB, "large": 17 * MIB + 1}
MOST = 0.02
"""Of the content may go over the wire, requests and all."""

Send = Callable[[S3Server, str, Path], None]
"""Sends a folder to where the bucket and a prefix say."""


def files(folder: Path) -> None:
    """Fill a folder."""
    chance = random.Random(folder.name)
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(chance.randbytes(size))


def run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def rclone(*options: str) -> Send:
    """With its multipart uploads, whose MD5 is in the metadata."""

    def send(server: S3Server, place: str, folder: Path) -> None:
        remote = (
            f":s3,provider=Ceph,endpoint='{server.endpoint}',region={server.region},force_path_style=true,"
            f"access_key_id='{server.access_key_id}',secret_access_key='{server.secret_access_key}':{place}"
        )
        program = find_program("rclone") or "rclone"
        run(program, "copy", str(folder), remote, "--config", os.devnull, "--s3-no-check-bucket", *options)

    return send


def boto3(part_mib: int) -> Send:
    """Which the command line of AWS uses, too; nothing but ETags tells of the content."""

    def send(server: S3Server, place: str, folder: Path) -> None:
        bucket, _, prefix = place.partition("/")
        size = part_mib * MIB
        config = TransferConfig(multipart_threshold=size, multipart_chunksize=size, use_threads=False)
        for name in SIZES:
            server.client().upload_file(str(folder / name), bucket, f"{prefix}/{name}", Config=config)

    return send


def s3cmd(server: S3Server, place: str, folder: Path) -> None:
    """Parts of 15 MiB, and the MD5 among its attributes."""
    program = find_program("s3cmd")
    if program is None:
        missing = "CANNOT BE TESTED HERE: there is no s3cmd: pip install s3cmd"
        pytest.fail(missing) if os.environ.get(REQUIRE_SERVERS) else pytest.skip(missing)
    address = f"127.0.0.1:{server.port}"
    run(
        sys.executable, "-W", "ignore", program, "put", "--recursive", f"{folder}/", f"s3://{place}/",
        "--config", os.devnull, "--no-ssl", "--host", address, "--host-bucket", address,
        "--region", server.region,
        "--access_key", server.access_key_id, "--secret_key", server.secret_access_key,
    )  # fmt: skip


def aws(server: S3Server, place: str, folder: Path) -> None:
    """The command line of AWS."""
    program = find_program("aws")
    if program is None:
        pytest.skip("CANNOT BE TESTED HERE: there is no aws: pip install awscli")
    environment = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # not every server knows trailers
    }
    named = [f"{name}={value}" for name, value in environment.items()]
    address = ("--endpoint-url", server.endpoint)
    run("env", *named, program, *address, "s3", "cp", "--recursive", f"{folder}/", f"s3://{place}/")


SENDERS: dict[str, Send] = {  # the numbers are the sizes of the parts in MiB
    "rclone": rclone(),
    "rclone-5": rclone("--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi"),
    "rclone-6": rclone("--s3-upload-cutoff", "6Mi", "--s3-chunk-size", "6Mi"),
    "boto3": boto3(8),
    "boto3-16": boto3(16),
    "s3cmd": s3cmd,
}
SERVERS = ["ceph", "moto"]
if os.environ.get("SYNCD_SERVERS") == "all":
    SERVERS = list(EXAMINED)
    SENDERS |= {"aws": aws, "rclone-16": rclone("--s3-upload-cutoff", "16Mi", "--s3-chunk-size", "16Mi")}
    SENDERS |= {f"boto3-{size}": boto3(size) for size in (5, 10, 15)}


def adopted(root: Path, store: dict[str, Any], proxy: FaultProxy, **more: Any) -> float:
    """Adopt the folder: one pass records it, and `verify` finds nothing to say. The share of the content that
    went over the wire, counted outside of syncd.
    """
    folder = root / "folder"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    source = {"name": "docs", "path": "./folder", "store": "there", "prefix": "p/", **more}
    syncd = Syncd(root, {"there": store}, [source])
    try:
        summary = syncd.command("sync").stdout
        assert " adopted; 0 bytes sent" in summary, summary
        share = proxy.bytes_sent / size
        assert syncd.command("verify").returncode == 0
        assert "nothing to do" in syncd.command("sync").stdout
    finally:
        syncd.close()
    return share


@pytest.mark.slow
@pytest.mark.parametrize("kind", SERVERS)
def test_what_other_programs_sent_is_not_sent_again(
    third_party: Callable[[str], S3Server], kind: str, tmp_path: Path, figure: Callable[[str, object], None]
) -> None:
    """Whatever the program, and however it cut the files."""
    server = third_party(kind)
    server.make_bucket("adopted")
    for name, send in SENDERS.items():
        files(tmp_path / "folder" / name)
        send(server, f"adopted/p/{name}", tmp_path / "folder" / name)
    assert len(server.keys("adopted")) == len(SIZES) * len(SENDERS)
    with FaultProxy(("127.0.0.1", server.port)) as proxy:
        share = adopted(tmp_path, s3_store(server.settings("adopted"), proxy.port), proxy)
    figure(f"bytes sent to adopt a bucket, of its content ({server.name})", f"{share:.4%}")
    assert share < MOST


def _as_bcecmd(sdk: BosClient, key: str, path: str, size: int) -> None:
    """Parts of 10 MB; its end names their ETags and no CRC."""
    upload, parts = sdk.initiate_multipart_upload("adopted", key).upload_id, []
    for number, offset in enumerate(range(0, size, 10 * MIB), 1):
        length = min(10 * MIB, size - offset)
        sent = sdk.upload_part_from_file("adopted", key, upload, number, length, path, offset)
        parts.append({"partNumber": number, "eTag": sent.metadata.etag})
    sdk.complete_multipart_upload("adopted", key, upload, parts)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_the_sdk_of_bos_and_bcecmd_sent_is_not_sent_again(bos_server: BosServer, tmp_path: Path) -> None:
    """Of an object that is made of parts BOS says no digest, but a CRC-32; that has to be allowed."""
    bos_server.disk.create("adopted")
    account = next(iter(bos_server.accounts.values()))
    keys = BceCredentials(account.access_key_id, account.secret_access_key)
    sdk = BosClient(BceClientConfiguration(credentials=keys, endpoint=bos_server.url))
    for way in ("sdk", "bcecmd"):
        files(tmp_path / "folder" / way)
        for name, size in SIZES.items():
            key, path = f"p/{way}/{name}", str(tmp_path / "folder" / way / name)
            if size <= 16 * MIB:
                sdk.put_object_from_file("adopted", key, path)
            elif way == "sdk":
                sdk.put_super_object_from_file("adopted", key, path, 5, 1)
            else:
                _as_bcecmd(sdk, key, path, size)
    del sdk
    gc.collect()
    with FaultProxy(("127.0.0.1", bos_server.port)) as proxy:
        store = bos_store(bos_server, "adopted", proxy.port)
        assert adopted(tmp_path, store, proxy, adopt_by_crc32=True) < MOST

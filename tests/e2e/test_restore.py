"""`syncd restore` as a process: on a new machine, killed again and again, compared by programs of others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from syncd.core.restoring import DRAFT
from tests.e2e import trees
from tests.e2e.process import SYNCD, Syncd, bos_store, s3_store, wait_until
from tests.support.bos_faults import Fault
from tests.support.bos_server import BosServer
from tests.support.servers import S3Server, find_program

PART = 5 * trees.MIB
PARTS = 8
CONCURRENCY = 3
KILLS = (2, 3)
"""Ranges that each of the killed processes got."""


class Machine:
    """A machine that has syncd and a configuration without a source."""

    def __init__(self, root: Path, stores: dict[str, Any]) -> None:
        root.mkdir()
        self.to = root / "to"
        self.config = root / "config.yaml"
        transfer = {"concurrency": CONCURRENCY, "part_size": "5MiB"}
        self.config.write_text(
            yaml.safe_dump({"state_dir": "./state", "stores": stores, "transfer": transfer})
        )

    def start(self, prefix: str = "p/") -> subprocess.Popen[str]:
        arguments = ["restore", "--store", "store", "--prefix", prefix, "--to", str(self.to), "--json"]
        return subprocess.Popen(
            [*SYNCD, *arguments, "-c", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def restore(self, prefix: str = "p/") -> dict[str, Any]:
        """Restore everything; returns the JSON of a good end."""
        with self.start(prefix) as process:
            stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, f"{stdout}\n{stderr}"
        found: dict[str, Any] = json.loads(stdout)
        return found


def differences(one: Path, other: Path) -> str:
    """What another program finds: names, contents and times."""
    options = ["-ntrlXc", "--omit-dir-times", "--delete", "--itemize-changes"]
    command = ["rsync", *options, f"{one}/", f"{other}/"] if which("rsync") else ["diff", "-r", one, other]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def sender(tmp_path: Path) -> Path:
    """The folder of the old machine, with names of every kind and a sparse file."""
    folder = tmp_path / "old" / "watched"
    folder.mkdir(parents=True)
    trees.write_odd(folder)
    with (folder / "sparse").open("wb") as file:
        file.truncate(6 * trees.MIB)
    return folder


def carry(root: Path, folder: Path, store: dict[str, Any]) -> None:
    source = {"name": "docs", "path": str(folder), "store": "store", "prefix": "p/", "settle": "0s"}
    syncd = Syncd(root, {"store": store}, [source])
    syncd.command("sync")


@pytest.mark.slow
def test_a_restore_that_is_killed_again_and_again_fetches_no_range_twice(
    tmp_path: Path, bos_server: BosServer
) -> None:
    """What arrived before a kill -9 is proven and kept; no half file is ever there under a name."""
    sender = tmp_path / "old" / "watched"
    sender.mkdir(parents=True)
    trees.write_big(sender / "large", PARTS * PART)
    bos_server.disk.create("restore")
    store = bos_store(bos_server, "restore")
    carry(tmp_path / "old", sender, store)
    machine = Machine(tmp_path / "new", {"store": store})
    for answered in KILLS:
        bos_server.faults.add(Fault("hold", op="GetObject", key="p/large", skip=answered, times=-1))
        process = machine.start()
        wait_until("all threads wait for a range", lambda: bos_server.faults.held() == CONCURRENCY)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        bos_server.faults.clear()
        wait_until("the server let go of them", lambda: bos_server.faults.held() == 0)
        assert not (machine.to / "large").exists()
    before = len(bos_server.log)
    found = machine.restore()
    assert differences(sender, machine.to) == ""
    assert (found["files"]["failed"], found["unchecked"]) == (0, [])
    ranges = [seen for seen in bos_server.log[before:] if seen.op == "GetObject" and seen.key == "p/large"]
    assert len(ranges) == PARTS - sum(KILLS)
    assert not [path for path in machine.to.rglob("*") if path.name.startswith(DRAFT)]
    assert machine.restore()["files"]["restored"] == 0


@pytest.mark.slow
@pytest.mark.real_server
def test_ours_and_those_of_rclone_come_back_from_s3(
    tmp_path: Path, sender: Path, rclone_server: S3Server
) -> None:
    """Through a server of others; what rclone wrote comes back with the times that it wrote."""
    rclone_server.make_bucket("restore")
    store = s3_store(rclone_server.settings("restore"))
    carry(tmp_path / "old", sender, store)
    ours = Machine(tmp_path / "ours", {"store": store})
    assert ours.restore()["files"]["failed"] == 0
    assert differences(sender, ours.to) == ""

    plain = tmp_path / "plain"
    (plain / "naïve").mkdir(parents=True)
    (plain / "naïve" / "a b.txt").write_text("small")
    os.utime(plain / "naïve" / "a b.txt", ns=(1, 1_234_567_890_123_456_789))
    trees.write_big(plain / "large", 6 * trees.MIB)
    run_rclone("copy", str(plain), f"{remote(rclone_server)}:restore/r")
    theirs = Machine(tmp_path / "theirs", {"store": store})
    assert theirs.restore("r/")["files"]["failed"] == 0
    assert differences(plain, theirs.to) == ""


def remote(server: S3Server) -> str:
    """The server, as rclone names it."""
    return (
        f":s3,provider=Other,endpoint='{server.endpoint}',region={server.region},force_path_style=true,"
        f"access_key_id='{server.access_key_id}',secret_access_key='{server.secret_access_key}'"
    )


def run_rclone(*arguments: str) -> None:
    program = find_program("rclone") or "rclone"
    subprocess.run([program, *arguments, "--config", os.devnull], check=True, timeout=300)

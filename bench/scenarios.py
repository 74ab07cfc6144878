"""What is measured: one function a scenario, each returning its results."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import idle
import peers
from measure import Result, Run, RunFailed, interleaved, run
from peers import Command, Task
from servers import BUCKET, Ceph, Server, Sink

from tests.support.fault_proxy import FaultProxy  # `servers` has made the tests importable

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """Where, how often, and whom to tell."""

    directory: Path
    rounds: int
    tell: Tell
    only: frozenset[str] = frozenset()
    """Contestants to measure beside syncd; empty: all."""

    def scratch(self, name: str) -> Path:
        """An empty directory."""
        path = self.directory / "scratch" / "".join(c if c.isalnum() else "-" for c in name)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def wants(self, name: str) -> bool:
        return not self.only or name.startswith("syncd") or any(one in name for one in self.only)


# ---- what is carried --------------------------------------------------------------------------------------


def folder(bench: Bench, count: int, size: int) -> Path:
    """So many files of so many bytes, all different, a hundred in each directory; made once."""
    root = bench.directory / f"files-{count}x{size}"
    if (root / ".complete").exists():
        return root / "tree"
    shutil.rmtree(root, ignore_errors=True)
    chance = random.Random(count * size)
    for number in range(count):
        directory = root / "tree" / f"d{number // 100:04}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number:06}.bin").write_bytes(chance.randbytes(size))
    (root / ".complete").touch()
    return root / "tree"


def large(bench: Bench, size: int) -> Path:
    """One file of so many bytes that no store can compress or deduplicate away; in the page cache."""
    path = bench.directory / f"large-{size}" / "file.bin"
    if not path.exists() or path.stat().st_size != size:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            while (left := size - file.tell()) > 0:
                file.write(os.urandom(min(left, 64 << 20)))
    with path.open("rb") as file:
        while file.read(16 << 20):
            pass
    return path


# ---- a and b: carry ---------------------------------------------------------------------------------------


def carry(bench: Bench, server: Server, path: Path) -> list[Result]:
    """Everybody carries the file or folder to an empty bucket."""
    names = [name for name, _ in peers.commands(_task(bench, server, path, "list"))]
    contestants: dict[str, Callable[[], Run]] = {}
    for name in filter(bench.wants, names):
        contestants[name] = lambda name=name: _carried(bench, server, path, name)  # type: ignore[misc]
    if isinstance(server, Sink):
        raw = [
            sys.executable,
            str(Path(__file__).with_name("limits.py")),
            str(server.port),
            str(path),
            "raw/",
        ]
        contestants["limit: raw sockets"] = lambda: _counted(bench, server, (raw, dict(os.environ)))
        digests = [*raw, "sha256"]
        name = "limit: raw sockets, XXH3 and SHA-256"
        contestants[name] = lambda: _counted(bench, server, (digests, dict(os.environ)))
        contestants["limit: cp"] = lambda: _copied(bench, path)
    _carried(bench, server, path, "syncd")  # the first run warms the server, and counts for nothing
    return interleaved(contestants, bench.rounds, bench.tell)


def _task(bench: Bench, server: Server, path: Path, name: str) -> Task:
    return Task(path, server, f"{name.split()[0].strip(',')}/", bench.scratch(name))


def _carried(bench: Bench, server: Server, path: Path, name: str) -> Run:
    task = _task(bench, server, path, name)
    command = dict(peers.commands(task))[name]
    try:
        return _counted(bench, server, command)
    finally:
        server.empty()


def _counted(bench: Bench, server: Server, command: Command) -> Run:
    before = server.counted()
    one = run(command[0], environ=command[1], log=bench.directory / "output.log")
    after = server.counted()
    if before is None or after is None:
        return one
    return replace(one, requests=after[0] - before[0], bytes_received=after[1] - before[1])


def _copied(bench: Bench, path: Path) -> Run:
    target = bench.scratch("copy") / "copy"
    try:
        return run(
            ["cp", "-r", str(path), str(target)], environ=os.environ, log=bench.directory / "output.log"
        )
    finally:
        shutil.rmtree(target.parent)


# ---- r: bring back ----------------------------------------------------------------------------------------


def bring_back(bench: Bench, server: Server, path: Path) -> list[Result]:
    """Everybody brings the file or folder back that syncd has sent; each into an empty folder of its own."""
    task = _task(bench, server, path, "restored")
    try:
        command, environ = peers.syncd(task)
        run(command, environ=environ, log=bench.directory / "output.log")
        rclone = dict(peers.commands(peers.sent_by_rclone(task))).get("rclone 16 MiB x4")
        if rclone is not None:  # large: see `peers.restores`
            run(rclone[0], environ=rclone[1], log=bench.directory / "output.log")
        names = [name for name, _ in peers.restores(task, bench.scratch("back"))]
        contestants: dict[str, Callable[[], Run]] = {}
        for name in filter(bench.wants, names):
            contestants[name] = lambda name=name: _brought(bench, task, name)  # type: ignore[misc]
        return interleaved(contestants, bench.rounds, bench.tell)
    finally:
        server.empty()


def _brought(bench: Bench, task: Task, name: str) -> Run:
    target = bench.scratch("back")
    try:
        command, environ = dict(peers.restores(task, target))[name]
        one = run(command, environ=environ, log=bench.directory / "output.log")
        wanted = [task.path] if task.is_file else [each for each in task.path.rglob("*") if each.is_file()]
        found = [each for each in target.rglob("*") if each.is_file()]
        if sum(each.stat().st_size for each in found) != sum(each.stat().st_size for each in wanted):
            raise RunFailed(f"{name} did not bring everything back")
        return one
    finally:
        shutil.rmtree(target)


# ---- c: nothing has changed -------------------------------------------------------------------------------


def scan(bench: Bench, server: Sink, files: int) -> list[Result]:
    """A second pass over files that are recorded, beside a `find` that prints what stat says."""
    path = folder(bench, files, 16)
    task = _task(bench, server, path, "scan")
    command = peers.syncd(task)
    first = run(command[0], environ=command[1], log=bench.directory / "output.log")
    bench.tell(f"  the first pass: {first.wall_seconds:.1f} s, {first.peak_mib:.0f} MiB")
    run(command[0], environ=command[1], log=bench.directory / "output.log")
    nothing = bench.scratch("nothing")
    (nothing / "file").touch()
    other = peers.syncd(_task(bench, server, nothing, "start"))
    run(other[0], environ=other[1], log=bench.directory / "output.log")
    printed = ["find", str(path), "-printf", "%p %s %T@ %C@ %i\\n"]
    return interleaved(
        {
            "syncd": lambda: _counted(bench, server, command),
            "syncd, a folder with one file": lambda: _counted(bench, server, other),
            "find -printf": lambda: run(printed, environ=os.environ, log=Path(os.devnull)),
        },
        bench.rounds,
        bench.tell,
    )


# ---- d: from close to readable ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the close of a new file until the object could be read."""

    name: str
    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def latency(bench: Bench, server: Ceph, files: int) -> list[Latency]:
    """Each contestant in turn watches a folder in which files of 4 KiB appear, one by one."""
    found: dict[str, list[float]] = {}
    for number in range(bench.rounds):
        for name, starter in _watchers().items():
            if not bench.wants(name):
                continue
            watched = bench.scratch(f"watched {name}")
            task = Task(watched, server, f"latency-{number}-{name.split()[0]}/", bench.scratch(f"run {name}"))
            with starter(bench, task):
                times = _appearances(server, task, files // bench.rounds)
            found.setdefault(name, []).extend(times)
            bench.tell(f"  {name}: median {statistics.median(times):.1f} ms")
            server.empty()
    return [Latency(name, tuple(times)) for name, times in found.items()]


def _watchers() -> Mapping[str, Callable[[Bench, Task], Any]]:
    watchers: dict[str, Callable[[Bench, Task], Any]] = {"syncd run": _syncd_watches}
    if peers.find("s5cmd") and shutil.which("inotifywait"):
        watchers["inotifywait into one s5cmd run"] = _pipe_watches
    if peers.find("s5cmd") and shutil.which("lsyncd"):
        watchers["lsyncd starting s5cmd"] = _lsyncd_watches
    return watchers


@contextmanager
def _process(bench: Bench, command: list[str], environ: Mapping[str, str]) -> Iterator[None]:
    with (bench.directory / "output.log").open("ab") as log:
        process = subprocess.Popen(command, env=dict(environ), stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


@contextmanager
def _syncd_watches(bench: Bench, task: Task) -> Iterator[None]:
    command, environ = peers.syncd(task, "run")
    with _process(bench, command, environ):
        yield


@contextmanager
def _pipe_watches(bench: Bench, task: Task) -> Iterator[None]:
    cp = f"cp {task.path}/%f s3://{BUCKET}/{task.prefix}%f"
    script = (
        f"exec inotifywait -q -m -e close_write --format '{cp}' {task.path} | "
        f"{peers.find('s5cmd')} --endpoint-url {task.endpoint} run"
    )
    with _process(bench, ["sh", "-c", script], task.environ()):
        yield


@contextmanager
def _lsyncd_watches(bench: Bench, task: Task) -> Iterator[None]:
    config = task.scratch / "lsyncd.lua"
    cp = (
        f"{peers.find('s5cmd')} --endpoint-url {task.endpoint} cp ^sourcePathname "
        f"s3://{BUCKET}/{task.prefix}^pathname"
    )
    config.write_text(
        "settings { nodaemon = true }\n"
        f'sync {{ {{ delay = 0, maxProcesses = 8, onCreate = "{cp}", onModify = "{cp}" }}, '
        f'source = "{task.path}" }}\n'
    )
    with _process(bench, ["lsyncd", str(config)], task.environ()):
        yield


def _appearances(server: Ceph, task: Task, files: int) -> list[float]:
    """Make files one by one and ask for each object until it is there. The first ones are for warming up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client = server.client()
    content = random.Random(files)
    times = []
    time.sleep(1.5)  # until it watches; a contestant that is later shows in the files that do not count
    for number in range(files + 3):
        name = f"file-{number:05}.bin"
        key = f"{task.prefix}{name}"
        url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})
        target = url.partition(f":{server.port}")[2]
        body = content.randbytes(4096)
        with (task.path / name).open("wb") as file:
            file.write(body)
        closed = time.perf_counter()
        _until_readable(connection, target, body)
        if number >= 3:
            times.append((time.perf_counter() - closed) * 1000)
        time.sleep(0.02)
    connection.close()
    return times


def _until_readable(connection: http.client.HTTPConnection, target: str, body: bytes) -> None:
    deadline = time.monotonic() + 60
    while True:
        connection.request("GET", target)
        answer = connection.getresponse()
        # The gateway sends the body when its head is acknowledged, which the kernel puts off for 40 ms.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if answer.read() == body and answer.status == 200:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"never readable: {target.partition('?')[0]}")


# ---- e: death in the middle -------------------------------------------------------------------------------


def crash(bench: Bench, server: Ceph, size: int) -> dict[str, float]:
    """MiB that are sent again by a second run after kill -9 at half of a file, counted by a proxy."""
    path = large(bench, size)
    again: dict[str, float] = {}
    listed = [name for name, _ in peers.commands(_task(bench, server, path, "list"))]
    for name in filter(bench.wants, listed):
        with FaultProxy(("127.0.0.1", server.port)) as proxy:
            task = _task(bench, server.through(proxy.port), path, name)
            offered = dict(peers.commands(task))
            if name not in offered:  # the CRT goes to port 80, whatever it is told
                bench.tell(f"  {name}: cannot be sent through a proxy")
                continue
            command, environ = offered[name]
            _killed_at(bench, command, environ, proxy, size // 2)
            try:
                run(command, environ=environ, log=bench.directory / "output.log")
            except RuntimeError as error:
                bench.tell(f"  {name}: FAILED: {error}")
                continue
            again[name] = round((proxy.bytes_sent - size) / (1 << 20), 1)
        bench.tell(f"  {name}: {again[name]} MiB again")
        server.empty()
    return again


def _killed_at(
    bench: Bench, command: list[str], environ: Mapping[str, str], proxy: FaultProxy, half: int
) -> None:
    with (bench.directory / "output.log").open("ab") as log:
        process = subprocess.Popen(command, env=dict(environ), stdout=log, stderr=log, start_new_session=True)
        while proxy.bytes_sent < half and process.poll() is None:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- g and h: nothing to do -------------------------------------------------------------------------------


def idleness(bench: Bench, server: Sink, files: int, seconds: float) -> dict[str, object]:
    """The daemon on so many recorded files while nothing happens."""
    path = folder(bench, files, 16)
    task = Task(path, server, f"idle-{files}/", bench.scratch(f"idle {files}"))
    command, environ = peers.syncd(task)
    run(command, environ=environ, log=bench.directory / "output.log")
    with (bench.directory / "output.log").open("ab") as log:
        daemon = subprocess.Popen(peers.syncd(task, "run")[0], env=environ, stdout=log, stderr=log)
    try:
        config = task.scratch / "config.yaml"
        time.sleep(3)
        idle.until_idle(config, files)
        time.sleep(5)  # what follows the scan is not idleness yet
        before, asked = idle.usage(daemon.pid), server.counted()
        time.sleep(seconds)
        after, answered = idle.usage(daemon.pid), server.counted()
        maps = Path(f"/proc/{daemon.pid}/maps").read_text()
        return {
            "files": files,
            "seconds": seconds,
            **{name: round(after[name] - before[name], 3) for name in before},
            "requests": answered[0] - asked[0],
            **idle.memory(daemon.pid),
            "awscrt_mapped": "awscrt" in maps,
        }
    finally:
        daemon.terminate()
        daemon.wait(60)

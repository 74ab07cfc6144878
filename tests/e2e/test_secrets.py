"""The keys of a real daemon are nowhere but in its memory: no log, title, state, answer or core file."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.process import SYNCD, Syncd, bos_store, wait_until
from tests.support.bos_auth import Account
from tests.support.bos_server import BosServer

RIGHT, WRONG = "hush/this+is=the right secret", "hush/this+is=another secret"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    with BosServer(tmp_path / "bos", accounts=[Account("ak", RIGHT)]) as server:
        yield server


@pytest.fixture
def syncd(tmp_path: Path, server: BosServer) -> Iterator[Syncd]:
    """Two stores with keys in files; one is let in, the other has a wrong secret."""
    stores: dict[str, Any] = {}
    sources = []
    (tmp_path / "keys").mkdir(mode=0o700)
    for name, secret in (("good", RIGHT), ("bad", WRONG)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
        key_file = tmp_path / "keys" / name
        key_file.write_text(secret + "\n")
        key_file.chmod(0o600)
        stores[name] = {**bos_store(server, "photos"), "secret_key_file": str(key_file)}
        del stores[name]["secret_access_key"]
        where = {"path": f"./{name}", "store": name, "prefix": f"{name}/"}
        sources.append({"name": name, "settle": "100ms", **where})
    syncd = Syncd(tmp_path, stores, sources, log={"level": "debug"})
    yield syncd
    syncd.close()


def _secrets() -> set[bytes]:
    """In every spelling that a URL or a format could give them."""
    return {
        spelling.encode()
        for secret in (RIGHT, WRONG)
        for spelling in (secret, quote(secret), quote(secret, safe=""), quote(secret, safe="").lower())
    }


def _tells(text: bytes) -> bool:
    return any(secret in text for secret in _secrets())


def _what_others_see(pid: int) -> bytes:
    """Title and names of a process and its threads."""
    found = [Path(f"/proc/{pid}/cmdline").read_bytes()]
    found += [comm.read_bytes() for comm in Path(f"/proc/{pid}/task").glob("*/comm")]
    return b"\n".join(found)


def test_a_secret_is_told_to_nobody(syncd: Syncd, server: BosServer, tmp_path: Path) -> None:
    """With every log line there is, a store that refuses the keys, and one that breaks down on the way."""
    with syncd.log.open("ab") as log:
        command = [*SYNCD, "run", "-vv", "-c", str(syncd.config)]
        syncd.process = subprocess.Popen(command, stdout=log, stderr=log, env=syncd.environ)
    wait_until("one is recorded", lambda: syncd.status()["sources"][0]["files"]["recorded"] == 1)
    wait_until("the other is refused", lambda: "store bad: paused" in syncd.log_text())
    titles = _what_others_see(syncd.process.pid)
    said = [syncd.command("status", "--json"), syncd.command("check", "-vv", check=False)]
    syncd.stop()
    said.append(syncd.command("sync", "-vv", check=False))

    assert b"SignatureDoesNotMatch" in syncd.log.read_bytes()
    assert not _tells(titles)
    assert not [done.args for done in said if _tells((done.stdout + done.stderr).encode())]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "keys"]
    assert not [str(path) for path in kept if _tells(path.read_bytes())]


def test_what_the_daemon_keeps_is_for_itself_alone(syncd: Syncd, tmp_path: Path) -> None:
    """State, lock and socket, and all that SQLite puts beside them, whatever the umask of who starts it."""
    with syncd.log.open("ab") as log:
        command = [*SYNCD, "run", "-c", str(syncd.config)]
        syncd.process = subprocess.Popen(command, stdout=log, stderr=log, env=syncd.environ, umask=0)
    wait_until("one is recorded", lambda: syncd.status()["sources"][0]["files"]["recorded"] == 1)
    state = tmp_path / "state"
    kept = {path: stat.S_IMODE(path.lstat().st_mode) for path in (state, *state.rglob("*"))}
    assert len(kept) >= 5, sorted(kept)
    directories = {path for path in kept if path.is_dir()}
    assert {kept[path] for path in directories} == {0o700}
    assert {path: oct(mode) for path, mode in kept.items() if path not in directories and mode & 0o077} == {}


def _ask_for_cores() -> None:
    """What an administrator does who wants core files: as large as they come."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def _end(process: subprocess.Popen[bytes], number: int) -> int:
    """The wait status of a process that a signal ends."""
    os.kill(process.pid, number)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -number  # it was waited for here
    return status


@pytest.fixture
def cores_are_made(tmp_path: Path) -> None:
    """Skips where no process leaves a core file, whatever it does."""
    (tmp_path / "plain").mkdir()
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    plain = subprocess.Popen(command, cwd=tmp_path / "plain", preexec_fn=_ask_for_cores)
    if not os.WCOREDUMP(_end(plain, signal.SIGABRT)):
        pytest.skip("this machine makes no core files")


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
@pytest.mark.usefixtures("cores_are_made")
def test_no_death_leaves_a_core_file(syncd: Syncd, tmp_path: Path, number: int) -> None:
    """Neither the watchdog's signal nor a crash; both still end the process, and say so to its parent."""
    place = tmp_path / "cwd"
    place.mkdir()
    with syncd.log.open("ab") as log:
        syncd.process = subprocess.Popen(
            [*SYNCD, "run", "-c", str(syncd.config)],
            cwd=place, stdout=log, stderr=log, env=syncd.environ, preexec_fn=_ask_for_cores,
        )  # fmt: skip
    wait_until("the daemon answers", lambda: syncd.status()["daemon"]["running"])

    status = _end(syncd.process, number)
    syncd.process = None

    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == number
    assert not os.WCOREDUMP(status)
    assert list(place.iterdir()) == []

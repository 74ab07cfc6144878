"""A folder whose server is gone is the state of its source, or its store, and no other source waits for it.

First with a folder whose functions wait for an event, then with a mounted file system that answers nothing,
where the threads that ask wait in the kernel.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from syncd.cli import sync
from syncd.config import load
from syncd.daemon import daemon, flush
from syncd.pipeline import pipeline
from syncd.pipeline.context import real_clock
from syncd.sources import directories, files, places
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.transfer.pace import heartbeat
from tests.support.mounting import silent
from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home
from tests.unit.pipeline.test_pipeline import Works, running

FILES = 10
HASTY = """
from syncd.cli.app import main
from syncd.sources import places
from syncd.storage.http import credentials
from syncd.transfer.pace import heartbeat

places.PATIENCE_SECONDS = credentials.PATIENCE_SECONDS = 0.3
heartbeat.SILENT_SECONDS = 1.0
main()
"""
"""syncd, but it waits less for what does not answer."""


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While the event is not set, what opens a file or a directory of source `a` does not return."""
    answers = threading.Event()
    answers.set()

    def waiting(module: ModuleType, name: str, place: Callable[..., str]) -> None:
        real = getattr(module, name)

        def wait_first(*arguments: Any, **named: Any) -> Any:
            if "dead" in place(*arguments):
                answers.wait(60)
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, wait_first)

    waiting(directories, "open_resolved", lambda path, *_: path)
    waiting(files, "open_file", lambda root_fd, path, *_: path)
    yield answers
    answers.set()


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    works = Works(tmp_path)
    works.pipeline._context.heartbeats.silent_seconds = 0.3
    yield works
    works.close()


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Works]:
    works = Works(tmp_path, once=True)
    works.pipeline._context.heartbeats.silent_seconds = 0.3
    yield works
    works.close()


def test_files_that_cannot_be_opened_hold_up_no_other_source(works: Works, dead: threading.Event) -> None:
    """One store, three workers, ten files that do not open: the other source's files go."""
    works.source("a")
    running(works, works.source("a"), works.source("b"))
    dead.clear()
    for number in range(FILES):
        works.write("a", f"dead{number}", b"a %d" % number)
    works.pipeline.rescan("a", "", "a test")
    (store,) = works.pipeline.store_runners.values()
    wait_until("its workers are stuck", lambda: len(store.workers.queue.counts()[1]) == 3)
    for number in range(FILES):
        works.write("b", f"f{number}", b"b %d" % number)
    works.pipeline.rescan("b", "", "a test")

    def arrived() -> bool:
        works.pipeline.look_after()
        return works.stored() == {f"b/f{number}" for number in range(FILES)}

    wait_until("the other source is there", arrived)
    assert "has not answered" in works.pipeline.silence("a")
    assert works.pipeline.silence("b") == ""
    dead.set()

    def all_is_there() -> bool:
        works.pipeline.look_after()
        return len(works.stored()) == 2 * FILES

    wait_until("the folder answers, and all is there", all_is_there)
    assert works.pipeline.silence("a") == ""


def test_a_pass_ends_without_the_folder_and_names_it(once: Works, dead: threading.Event) -> None:
    """The others are whole; what was left out is no success."""
    once.write("dead", "x", b"x")
    once.write("b", "y", b"y")
    once.apply(once.source("dead"), once.source("b"))
    dead.clear()
    once.pipeline.start()
    assert once.pipeline.wait_done(lambda: False, lambda: None) is True
    assert once.stored() == {"b/y"}
    assert "has not answered" in once.pipeline.source_runners["dead"].news.waiting_for
    assert once.pipeline.stop(30.0) is True
    assert once.pipeline.waits_for_folders()
    dead.set()
    wait_until("its thread ends", lambda: not once.pipeline.waits_for_folders())


def test_a_store_that_hangs_is_no_silence_of_the_folder(works: Works) -> None:
    """The thread of a source asks the store before the first scan: the remedy is not at the folder."""
    answers = threading.Event()
    works.source("a")
    works.apply(works.source("a"))
    works.stores["/one"].before("list_objects", lambda call: answers.wait(60))
    try:
        works.pipeline.start()
        wait_until("it is asked", lambda: works.stores["/one"].in_flight == 1)
        threading.Event().wait(0.4)
        assert works.pipeline.silence("a") == ""
    finally:
        answers.set()


def test_a_reload_does_not_wait_for_the_folder(works: Works, dead: threading.Event) -> None:
    """The runners of its store are replaced, and what comes later goes with the new ones."""
    running(works, works.source("dead"), works.source("b"))
    works.write("b", "before", b"1")
    works.pipeline.rescan("b", "", "a test")
    wait_until("it runs", lambda: works.stored() == {"b/before"})
    dead.clear()
    works.pipeline.rescan("dead", "", "a test")
    wait_until("its scan hangs", lambda: works.pipeline.silence("dead"))
    works.apply(works.source("b"), one="/two")
    works.pipeline.start()
    works.write("b", "later", b"2")
    works.pipeline.rescan("b", "", "a test")
    wait_until("it goes on", lambda: "b/later" in works.stored("/two"))


# ---- a file system that answers nothing -------------------------------------------------------------------


class Machine:
    """A source on a file system that answers nothing, one on this disk; or a store there, and one here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("net", "disk", "store"):
            (root / name).mkdir()
        (root / "disk/file").write_text("x")
        self.write(net="s", disk="s")

    def write(self, **stores_of: str) -> None:
        """Which source goes to which store: `s` on this disk, `net` on the file system that is silent."""
        sources = [
            {"name": name, "path": str(self.root / name), "store": store, "prefix": f"{name}/"}
            for name, store in stores_of.items()
        ]
        paths = {"s": "store", "net": "net"}
        stores = {
            name: {"type": "dir", "path": str(self.root / paths[name])} for name in set(stores_of.values())
        }
        settled = [{**source, "settle": "100ms"} for source in sources]
        text = json.dumps({"state_dir": str(self.root / "state"), "stores": stores, "sources": settled})
        (self.root / "c.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", HASTY, *arguments, "-c", str(self.root / "c.yaml")]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[tuple[Machine, Callable[[], None]]]:
    made = Machine(tmp_path)
    with silent(tmp_path / "net") as end:
        yield made, end
    for asked in places._unanswered.values():
        asked.wait(30)
    places._unanswered.clear()


def test_the_daemon_never_waits_for_a_file_system(machine: tuple[Machine, Callable[[], None]]) -> None:
    """Start, status, check, explain, reload and stop beside one that answers nothing."""
    made, end = machine
    daemon = subprocess.Popen(made.command("run"), stderr=subprocess.DEVNULL)
    try:
        wait_until("the other source is there", (made.root / "store/disk/file").exists)
        assert json.loads(made.run("status", "--json").stdout)["daemon"]["health"] == "ok"
        checks = json.loads(made.run("check", "--json").stdout)["checks"]
        failed = {row["check"]: row["detail"] for row in checks if row["passed"] is False}
        assert "does not answer" in failed["source net"]
        assert "does not answer" in made.run("explain", str(made.root / "net/x")).stdout
        daemon.send_signal(signal.SIGHUP)
        (made.root / "disk/later").write_text("y")
        wait_until("after the reload as well", (made.root / "store/disk/later").exists)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 3
        StateLock.acquire(str(made.root / "state")).release()
    finally:
        end()
        daemon.kill()
        daemon.wait()


def test_commands_do_their_work_beside_such_a_file_system(
    machine: tuple[Machine, Callable[[], None]],
) -> None:
    """Each ends, names the folder that is silent, and does what there is to do elsewhere."""
    made, _ = machine
    (made.root / "disk/file").write_text("y")
    for arguments, code, words in (
        (("sync", "--dry-run"), 3, "upload   disk:file"),
        (("adopt",), 3, "disk: 0 files"),
        (("verify",), 0, "note net:"),
        (("restore", "disk", "--to", str(made.root / "out")), 3, "the store has no object of it"),
        (("restore", "disk", "--to", str(made.root / "net/out")), 2, "does not answer"),
    ):
        done = made.run(*arguments)
        told = done.stdout + done.stderr
        assert (arguments, done.returncode, words in told) == (arguments, code, True), told
        assert arguments[0] == "restore" or "does not answer" in told
    assert re.search(r"disk +not known", made.run("explain", str(made.root / "net/x")).stdout)
    made.write(disk="net")
    done = made.run("adopt")
    assert (done.returncode, "disk: not all were checked" in done.stderr) == (69, True), done.stderr


def _impatient_pass(made: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int]]:
    """A pass that soon gives up what does not answer: its exit code, and those with which it left threads."""
    left: list[int] = []
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(pipeline, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(sync.os, "_exit", left.append)
    settings = load.load(str(made.root / "c.yaml"), os.environ)
    code = sync.sync(settings, sync.Overrides(), threading.Event(), terminal=False)
    return code, left


def test_a_pass_beside_such_a_file_system_is_partly_done(
    machine: tuple[Machine, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 3; the source is named, and the process ends although a thread of its own cannot."""
    made, end = machine
    assert _impatient_pass(made, monkeypatch) == (3, [3])
    assert "not scanned: net: the folder has not answered" in capsys.readouterr().err
    assert (made.root / "store/disk/file").exists()
    State.open(str(made.root / "state"), now_ns=real_clock().now_ns).close()
    end()


# ---- a store's directory on it ----------------------------------------------------------------------------


def test_a_pass_finishes_the_other_stores_and_names_the_one_that_hangs(
    machine: tuple[Machine, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 69, soon; whatever waits for that store, a worker or the thread of its source, is left."""
    made, end = machine
    (made.root / "other").mkdir()
    (made.root / "other/file").write_text("x")
    made.write(other="net", disk="s")
    assert _impatient_pass(made, monkeypatch) == (69, [69])
    assert "store net: the directory has not answered" in capsys.readouterr().err
    assert (made.root / "store/disk/file").exists()
    end()


def test_a_daemon_never_waits_for_a_store_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is paused and named; a flush ends, a reload replaces it, and a stop leaves it."""
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(daemon, "_BUSY_TICK_SECONDS", 0.2)
    monkeypatch.setattr(flush, "_SHUT_SECONDS", 0.5)
    monkeypatch.setattr(pipeline, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(pipeline, "_STOP_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(pipeline, "RETIRE_SECONDS", 1e6)
    monkeypatch.setattr(daemon, "DRAIN_SECONDS", 1e6)
    monkeypatch.setattr("syncd.daemon.daemon.os._exit", lambda code: None)
    home = Home(tmp_path)
    home.content["stores"]["net"] = {"type": "dir", "path": "./net"}
    home.content["sources"] = [home.source("docs", "watched"), home.source("other", "other", store="net")]
    (tmp_path / "other").mkdir()
    for number in range(FILES):
        (tmp_path / "other" / f"f{number}").write_text("x")
    with silent(tmp_path / "net") as end:
        try:
            home.start()
            hangs = "the directory has not answered"
            wait_until(
                "it is named", lambda: hangs in str(home.ask(command="status")["daemon"]["stores_paused"])
            )
            (tmp_path / "watched" / "a").write_text("a")
            home.arrives("a")
            answer = home.ask(command="flush", scan=True)
            assert hangs in answer["kept_back"]["other"]
            home.content["transfer"] = {"concurrency": 3}
            home.reload()
            (tmp_path / "watched" / "b").write_text("b")
            home.arrives("b")
            assert home.stop() == 3
            assert home.daemon._must_leave
        finally:
            end()
            home.close()


# ---- what the configuration names lies on it --------------------------------------------------------------

FILES_OF_A_STORE = ["secret_key_file", "ca_bundle"]


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Path]:
    with silent(tmp_path / "gone", "fuse.other") as end:
        yield tmp_path / "gone"
        end()
    for asked in places._unanswered.values():
        asked.wait(30)
    places._unanswered.clear()


@pytest.mark.parametrize("place", ["the configuration", "the usual one", "state_dir", "http.token_file"])
def test_what_all_needs_ends_the_command_with_words(
    net: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any other mistake of the configuration does; the problem has the path."""
    made = Machine(tmp_path)
    text = json.loads((tmp_path / "c.yaml").read_text())
    if place == "state_dir":
        text["state_dir"] = str(net / "state")
    elif place == "http.token_file":
        text["http"] = {"address": "127.0.0.1:8765", "token_file": str(net / "token")}
    made.write(disk="s")
    text["sources"] = [each for each in text["sources"] if each["name"] == "disk"]
    (tmp_path / "c.yaml").write_text(json.dumps(text))
    given = str(net / "c.yaml") if place == "the configuration" else str(tmp_path / "c.yaml")
    if place == "the usual one":
        monkeypatch.setenv("XDG_CONFIG_HOME", str(net))
        given = ""
    command = [sys.executable, "-c", HASTY, "run", *(["-c", given] if given else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "does not answer" in done.stderr) == (78, True), done.stderr
    assert str(net) in done.stderr


# ---- the usual places lie on it ---------------------------------------------------------------------------

USUAL = ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
ASKS = [
    "check", "explain /x", "flush", "health", "history", "pause", "pending", "reload", "restamp", "rescan",
    "resume", "retry", "run", "status", "status --json", "status /x", "sync", "uploads", "verify",
]  # fmt: skip


def environ_of(root: Path, **places: str) -> dict[str, str]:
    """Each place that syncd looks at by itself in a directory of its own, but for `places`."""
    usual = {name: str(root / f"of-{name}") for name in USUAL}
    for place in usual.values():
        Path(place).mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "SYNCD_"))}
    return {**kept, **usual, **places}


def ended(commands: list[str], environ: dict[str, str]) -> dict[str, tuple[int, str]]:
    """The exit code of each and what it said, all at once: fails where one does not end."""
    started = {
        words: subprocess.Popen(
            [sys.executable, "-c", HASTY, *words.split()],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for words in commands
    }  # fmt: skip
    try:
        return {words: (each.wait(60), each.communicate()[0]) for words, each in started.items()}
    finally:
        for each in started.values():
            each.kill()


def usual_configuration(root: Path, environ: dict[str, str]) -> None:
    """One source and one store, where the configuration is looked for."""
    made = Machine(root)
    made.write(disk="s")
    text = json.loads((root / "c.yaml").read_text())
    text["sources"] = [each for each in text["sources"] if each["name"] == "disk"]
    del text["state_dir"]
    place = Path(environ["XDG_CONFIG_HOME"]) / "syncd"
    place.mkdir()
    (place / "config.yaml").write_text(json.dumps(text))


@pytest.mark.parametrize("place", ["HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"])
def test_no_command_waits_for_a_usual_place(net: Path, tmp_path: Path, place: str) -> None:
    """Without ``-c`` configuration, state and socket are looked for, and one of them does not answer."""
    environ = environ_of(tmp_path)
    usual_configuration(tmp_path, environ)
    environ[place] = str(net)
    if place == "HOME":
        environ = {name: value for name, value in environ.items() if not name.startswith("XDG_")}
    told = ended(ASKS if place == "HOME" else ["health", "status", "sync"], environ)
    assert {words for words, (_, said) in told.items() if "does not answer" not in said} == set()


def test_a_daemon_answers_though_its_usual_places_do_not(tmp_path: Path) -> None:
    """It is asked before anything is looked at there, and does not look there itself either."""
    environ = environ_of(tmp_path)
    usual_configuration(tmp_path, environ)
    started = [sys.executable, "-c", HASTY, "run"]
    daemon = subprocess.Popen(started, env=environ, stderr=subprocess.DEVNULL)
    try:
        wait_until("it answers", lambda: ended(["health"], environ)["health"][0] == 0)
        with silent(Path(environ["XDG_CONFIG_HOME"]), "fuse.other") as end:
            told = ended(["health", "status", "status /x", "pending"], environ)
            end()
        codes = {words: code for words, (code, _) in told.items()}
        assert codes == {"health": 0, "status": 0, "status /x": 1, "pending": 0}, told
        assert "/x is in no source" in told["status /x"][1]
    finally:
        daemon.kill()
        daemon.wait()


def test_a_daemon_runs_without_a_runtime_directory_that_answers(net: Path, tmp_path: Path) -> None:
    """It has another socket in its state directory."""
    environ = environ_of(tmp_path)
    usual_configuration(tmp_path, environ)
    environ["XDG_RUNTIME_DIR"] = str(net)
    daemon = subprocess.Popen([sys.executable, "-c", HASTY, "run"], env=environ, stderr=subprocess.DEVNULL)
    try:
        wait_until("it carries files", (tmp_path / "store/disk/file").exists)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    finally:
        daemon.kill()
        daemon.wait()


def test_a_file_of_one_store_stops_no_other(net: Path, tmp_path: Path) -> None:
    """A pass carries the sources of the other store, names the files, and ends."""
    made = Machine(tmp_path)
    (tmp_path / "secret").write_text("s3cr3t")
    stores: dict[str, dict[str, str]] = {"s": {"type": "dir", "path": str(tmp_path / "store")}}
    sources = [{"name": "disk", "path": str(tmp_path / "disk"), "store": "s", "prefix": "disk/"}]
    for key in FILES_OF_A_STORE:
        (tmp_path / key).mkdir()
        (tmp_path / key / "file").write_text("x")
        sources.append({"name": key, "path": str(tmp_path / key), "store": key})
        stores[key] = {
            "type": "s3",
            "endpoint": "https://127.0.0.1:9",
            "bucket": f"bucket-of-{key.replace('_', '-')}",
            "access_key_id": "AKID",
            "secret_key_file": str(tmp_path / "secret"),
            key: str(net / key),
        }
    text = {"state_dir": str(tmp_path / "state"), "stores": stores, "sources": sources}
    (tmp_path / "c.yaml").write_text(json.dumps(text))
    done = made.run("sync")
    assert (made.root / "store/disk/file").exists(), done.stderr
    assert done.returncode in (69, 77), done.stderr
    for key in FILES_OF_A_STORE:
        assert re.search(f"store {key}: .*{net / key} does not answer", done.stderr), done.stderr

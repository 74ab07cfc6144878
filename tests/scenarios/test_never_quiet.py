"""A file that is never quiet is named, and holds up no other; when it has become quiet it arrives."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.daemon import live
from tests.support.waiting import wait_until
from tests.unit.cli.home import Home as Commands
from tests.unit.daemon.test_daemon import Home


class Appender:
    """A program that writes a line every few milliseconds, until told to stop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            with self._path.open("ab") as file:
                file.write(b"another line\n")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def never_quiet(home: Home) -> Any:
    return home.ask(command="status")["sources"][0]["never_quiet"]


def test_a_file_that_is_appended_for_ever_is_named_and_holds_up_nobody(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status names it, other files of its folder arrive, nothing of it is sent, and in the end all of it."""
    monkeypatch.setattr(live, "RESTLESS_SECONDS", 0.3)
    home.content["sources"] = [{**home.source("docs", "watched"), "settle": "2s"}]
    monkeypatch.setattr(live, "_RESTLESS_SETTLES", 0.2)
    home.start()
    assert never_quiet(home) == []
    log = home.root / "watched" / "log"
    writer = Appender(log)
    try:
        wait_until("it is named", lambda: never_quiet(home) == ["log"])
        for name in ("a", "b", "c"):
            (home.root / "watched" / name).write_text(name)
        for name in ("a", "b", "c"):
            home.arrives(name)
        assert never_quiet(home) == ["log"]
        assert not (home.root / "mirror" / "log").exists()
    finally:
        writer.stop()

    home.arrives("log")
    assert (home.root / "mirror" / "log").read_bytes() == log.read_bytes()
    wait_until("it is named no more", lambda: never_quiet(home) == [])


# ---- in a single pass, where no event tells of anything ----------------------------------------------------


WRITER = """
import sys, time
file = open(sys.argv[1], "ab", buffering=0)
while True:
    file.write(b"another line;")
    print("written", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def writing(path: Path, every_seconds: float) -> Iterator[None]:
    """Another process that has the file open, and has written to it."""
    command = [sys.executable, "-c", WRITER, path, str(every_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        try:
            yield
        finally:
            writer.kill()


@pytest.mark.parametrize("every_seconds", [0.05, 3600.0], ids=["it appends", "it holds the file open"])
def test_a_pass_leaves_a_file_that_is_being_written(tmp_path: Path, every_seconds: float) -> None:
    """It is counted and named, the status says that not all is in sync; the others arrive, and later it."""
    commands = Commands(tmp_path)
    commands.content["sources"][0]["settle"] = "400ms"
    log = commands.watched / "log"
    (commands.watched / "other").write_text("other")
    with writing(log, every_seconds):
        done = commands.run("sync")

    assert done.exit_code == 4
    assert done.stdout == "1 uploaded; 5 bytes sent, 0 saved; 0 failed; 1 settling\n"
    assert "settling: docs:log: it " in done.stderr
    assert commands.stored() == {"other"}

    done = commands.run("sync")
    assert (done.exit_code, commands.stored()) == (0, {"log", "other"})
    assert (commands.mirror / "log").read_bytes() == log.read_bytes()

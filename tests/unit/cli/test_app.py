"""The command line: every command, every option, every exit code."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from syncd import __version__
from syncd.cli import exit_codes as cli_codes
from syncd.cli import sync as passes
from syncd.cli.app import cli
from syncd.core.errors import (
    AccessRefused,
    ConfigError,
    FileUnreadable,
    PartCorrupt,
    StateError,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import ObjectMeta
from syncd.daemon.control import ControlServer
from syncd.daemon.logs import _Lines
from syncd.sources.fingerprint import of_bytes
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support.bos_server import BosServer
from tests.support.waiting import wait_until

COMMANDS = ("run", "sync", "status", "check", "verify", "uploads", "install-service")


class Home:
    """A configuration on a directory store, and the commands on it."""

    def __init__(self, root: Path, **environ: str) -> None:
        self.root = root
        self.environ = environ
        self.processes: list[subprocess.Popen[str]] = []
        self.watched, self.mirror = root / "watched", root / "mirror"
        for path in (self.watched, self.mirror):
            path.mkdir()
        self.content: dict[str, Any] = {
            "state_dir": "./state",
            "stores": {"mirror": {"type": "dir", "path": "./mirror"}},
            "sources": [{"name": "docs", "path": "./watched", "store": "mirror", "settle": "100ms"}],
            "transfer": {"concurrency": 2},
        }

    def write(self) -> str:
        file = self.root / "config.yaml"
        file.write_text(yaml.safe_dump(self.content))
        return str(file)

    def run(self, *arguments: str) -> Result:
        environ = dict.fromkeys(("SYNCD_CONFIG", "XDG_CONFIG_HOME")) | dict(self.environ)
        return CliRunner().invoke(cli, [*arguments, "-c", self.write()], env=environ)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "syncd", *arguments, "-c", self.write()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture(autouse=True)
def no_handler_left() -> Iterator[None]:
    """Each command sets logging up on a stream of its own, which is gone afterwards."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


# ---- the frame --------------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    """Each with a line that says what it is for."""
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert command in shown.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help(command: str, option: str) -> None:
    """Without a configuration."""
    shown = CliRunner().invoke(cli, [command, option])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def test_the_version_is_told() -> None:
    """That of the package."""
    assert CliRunner().invoke(cli, ["--version"]).output.strip().endswith(__version__)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["sync", "--nonsense"],
        ["status", "a", "b"],
        ["sync", "--allow-deletes"],
        ["check", "extra"],
    ],
)
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    """As everywhere."""
    assert CliRunner().invoke(cli, arguments).exit_code == 2


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_a_wrong_configuration_is_78_with_every_mistake(home: Home, command: str) -> None:
    """Before anything is made or asked."""
    home.content |= {"sources": [{"name": "docs", "pth": "x", "store": "miror"}], "lgo": {}}
    done = home.run(command)
    assert done.exit_code == cli_codes.EXIT_CONFIG
    for word in ("pth", "miror", "lgo"):
        assert word in done.stderr
    assert "Traceback" not in done.output
    assert not (home.root / "state").exists()


def test_a_missing_configuration_is_78(tmp_path: Path) -> None:
    """With the places that were looked at, or the file that was named."""
    environ = {"SYNCD_CONFIG": "", "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = CliRunner().invoke(cli, ["status", "-c", str(tmp_path / "nowhere.yaml")], env=environ)
    assert done.exit_code == 78
    assert "nowhere.yaml" in done.stderr


def test_the_configuration_may_be_named_by_the_environment(home: Home) -> None:
    """``$SYNCD_CONFIG``, where no -c is given."""
    done = CliRunner().invoke(cli, ["status", "--json"], env={"SYNCD_CONFIG": home.write()})
    assert json.loads(done.stdout)["sources"][0]["name"] == "docs"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError([]), 78),
        (AccessRefused("bad key"), 77),
        (AccessRefused("no such bucket", credentials=False), 69),
        (StoreUnavailable("down"), 69),
        (StoreRefused("no"), 69),
        (PartCorrupt("x"), 69),
        (StateError("x"), 1),
        (FileUnreadable("x"), 1),
        (KeyError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    """A promise to scripts and service managers."""
    assert cli_codes.exit_code(error) == code


def test_levels_are_counted_from_the_configuration(home: Home) -> None:
    """-v says more, -q less; twice, errors only."""
    (home.watched / "a").write_text("x")
    assert "uploaded" in home.run("sync").stderr
    (home.watched / "b").write_text("x2")
    assert home.run("sync", "-q").stderr == ""
    (home.watched / "c").symlink_to("a")
    assert "skipped" in home.run("sync", "-v").stderr


# ---- sync -------------------------------------------------------------------------------------------------


def test_sync_is_zero_when_all_is_there(home: Home) -> None:
    """With a summary, and again with nothing to do."""
    (home.watched / "a").write_text("x")
    done = home.run("sync")
    assert (done.exit_code, done.stdout) == (0, "1 uploaded; 1 bytes sent, 0 saved; 0 failed\n")
    assert (home.mirror / "a").read_text() == "x"
    assert home.run("sync").exit_code == 0


def test_sync_is_three_when_some_files_failed(home: Home) -> None:
    """The others are there, and each failure is named."""
    (home.watched / "good").write_text("x")
    (home.watched / "sub").mkdir()
    (home.watched / "sub" / "bad").write_text("y")
    (home.mirror / "sub").symlink_to("/nowhere")
    done = home.run("sync")
    assert done.exit_code == 3
    assert "failed: docs:sub/bad" in done.stderr
    assert (home.mirror / "good").exists()


def test_one_refused_object_is_no_store_that_cannot_be_reached(home: Home) -> None:
    """Also when it was the only file: the store answered."""
    (home.watched / "sub").mkdir()
    (home.watched / "sub" / "bad").write_text("y")
    (home.mirror / "sub").symlink_to("/nowhere")
    assert home.run("sync").exit_code == 3


def test_sync_is_three_when_a_source_could_not_be_seen(home: Home) -> None:
    """A root that is away is no success."""
    home.watched.rmdir()
    done = home.run("sync")
    assert done.exit_code == 3
    assert "not scanned: docs: the root is missing" in done.stderr


@pytest.mark.parametrize("files", [1, 30])
def test_sync_is_69_when_nothing_got_through(home: Home, files: int) -> None:
    """A store that is down, whether one file met it or many."""
    for number in range(files):
        (home.watched / f"f{number}").write_text(str(number))
    home.mirror.rmdir()
    done = home.run("sync")
    assert done.exit_code == 69
    assert "not there" in done.stderr


def bos(home: Home, server: BosServer, secret: str) -> None:
    account = next(iter(server.accounts.values()))
    home.content["stores"]["mirror"] = {
        "type": "bos",
        "endpoint": server.url,
        "bucket": "cli",
        "path_style": True,
        "access_key_id": account.access_key_id,
        "secret_access_key": secret,
    }


def test_sync_and_check_are_77_when_the_keys_are_refused(home: Home, bos_server: BosServer) -> None:
    """Said once, and the secret is nowhere in what is said."""
    bos_server.disk.create("cli")
    secret = "not-the-secret-of-this-account"
    bos(home, bos_server, secret)
    for number in range(10):
        (home.watched / f"f{number}").write_text(str(number))
    for command in ("sync", "check"):
        done = home.run(command)
        assert done.exit_code == 77
        assert secret not in done.output


def test_a_disk_that_is_full_at_the_end_is_no_success(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last records are written when the state is closed: exit code 1, and why."""
    (home.watched / "a").write_text("x")
    real = State.close

    def full(state: State) -> None:
        real(state)
        raise StateError("no room on the disk")

    monkeypatch.setattr(State, "close", full)
    done = home.run("sync")
    assert (done.exit_code, "no room on the disk" in done.stderr) == (1, True)


def test_a_daemon_holds_the_state(home: Home) -> None:
    """Exit code 1, with its pid."""
    home.write()
    lock = StateLock.acquire(str(home.root / "state"))
    done = home.run("sync")
    lock.release()
    assert done.exit_code == 1
    assert str(os.getpid()) in done.stderr


def test_a_dry_run_prints_the_plan_and_does_nothing(home: Home) -> None:
    """One line a file, exit code 0; 3 when something could not be seen."""
    (home.watched / "a").write_text("xyz")
    for option in ("-n", "--dry-run"):
        done = home.run("sync", option)
        assert (done.exit_code, done.stdout) == (0, "upload   docs:a (3 bytes): new\n")
    assert os.listdir(home.mirror) == []
    assert not (home.root / "state").exists()
    (home.watched / "a").unlink()
    home.watched.rmdir()
    assert home.run("sync", "-n").exit_code == 3


def test_a_word_about_an_unknown_source_is_wrong_usage(home: Home) -> None:
    """With its name."""
    for option in ("--allow-deletes", "--accept-root"):
        done = home.run("sync", option, "dosc")
        assert done.exit_code == 2
        assert "dosc" in done.stderr


def test_allowed_deletions_go(home: Home) -> None:
    """Without the word they wait, and the command that helps is named."""
    home.content["sources"][0] |= {"on_delete": "delete", "max_delete": 0}
    (home.watched / "a").write_text("x")
    (home.watched / "b").write_text("y")
    home.run("sync")
    (home.watched / "a").unlink()
    done = home.run("sync")
    assert "syncd sync --allow-deletes docs" in done.stderr
    assert (home.mirror / "a").exists()
    done = home.run("sync", "--allow-deletes", "docs")
    assert (done.exit_code, "1 deleted" in done.stdout) == (0, True)
    assert not (home.mirror / "a").exists()


def test_an_accepted_root_is_taken(home: Home) -> None:
    """The message of the pass before names the very command."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    home.watched.rename(home.root / "old")
    home.watched.mkdir()
    (home.watched / "b").write_text("y")
    done = home.run("sync")
    assert done.exit_code == 3
    assert "syncd sync --accept-root docs" in done.stderr
    assert home.run("sync", "--accept-root", "docs").exit_code == 0
    assert sorted(path for path in os.listdir(home.mirror) if path != ".syncd") == ["a", "b"]


def test_words_go_to_the_daemon_where_one_runs(home: Home) -> None:
    """Both kinds, each with its answer; what it refuses is an error."""
    (home.root / "state").mkdir()
    heard: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        heard.append(request)
        return {"allowed": 7} if len(heard) < 3 else {"error": "why not"}

    server = ControlServer(str(home.root / "state"), answer)
    server.start()
    done = home.run("sync", "--allow-deletes", "docs", "--accept-root", "docs")
    assert done.exit_code == 0
    assert "7 objects" in done.stdout
    assert [request["command"] for request in heard] == ["allow-deletes", "accept-root"]
    refused = home.run("sync", "--accept-root", "docs")
    assert (refused.exit_code, "why not" in refused.stderr) == (1, True)
    server.stop()


def test_a_daemon_that_does_not_answer_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no traceback."""

    def silent(directory: str, request: dict[str, Any]) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(passes.control, "ask", silent)
    done = home.run("sync", "--allow-deletes", "docs")
    assert (done.exit_code, "does not answer" in done.stderr) == (1, True)
    assert "Traceback" not in done.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_is_130_within_seconds_and_goes_on_later(home: Home, number: int) -> None:
    """Mid-part: what is there stays, and is not sent again."""
    home.content["transfer"] |= {"part_size": "1MiB", "bandwidth_limit": "1MiB"}
    content = os.urandom(1 << 20) * 40
    (home.watched / "big").write_bytes(content)
    process = home.start("sync")

    def moves() -> bool:
        done = home.run("status", "--json")
        return any(item["bytes_done"] > 1 << 20 for item in json.loads(done.stdout)["in_flight"])

    wait_until("it moves", moves, 60.0)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)  # without the stop it would take longer, held back as it is
    assert (process.returncode, "Traceback" in errors) == (130, False)
    kept = json.loads(home.run("status", "--json").stdout)["in_flight"][0]["bytes_done"]
    assert kept > 0
    home.content["transfer"]["bandwidth_limit"] = 0
    done = home.run("sync")
    assert done.exit_code == 0
    assert (home.mirror / "big").read_bytes() == content
    sent = re.search(r"(\d+) bytes sent", done.stdout)
    assert sent is not None
    assert int(sent[1]) <= len(content) - kept


def test_a_thread_that_is_stuck_does_not_hold_up_the_exit(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process leaves with the right code, and what was joined is on the disk."""
    left: list[int] = []

    class Left(BaseException):
        pass

    def leave(code: int) -> None:
        left.append(code)
        raise Left

    real = passes.once.run_once

    def stuck(*args: Any, **named: Any) -> Any:
        return replace(real(*args, **named), ended=False, interrupted=True)

    monkeypatch.setattr(passes.once, "run_once", stuck)
    monkeypatch.setattr(passes.os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    with pytest.raises(Left):
        CliRunner().invoke(cli, ["sync", "-c", home.write()], catch_exceptions=False)
    assert left == [130]


# ---- status, check, verify, uploads -----------------------------------------------------------------------


def test_status_is_for_a_person_or_a_program(home: Home) -> None:
    """A table in eighty columns, JSON, or what is known about one file."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    shown = home.run("status")
    assert shown.exit_code == 0
    assert "daemon: not running" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert json.loads(home.run("status", "--json").stdout)["sources"][0]["files"]["recorded"] == 1
    one = json.loads(home.run("status", str(home.watched / "a")).stdout)
    assert one["recorded"]["size"] == 1
    assert home.run("status", "/etc/hostname").exit_code == 1


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["check", "--config-only"]])
def test_who_asks_no_store_needs_no_secret(home: Home, arguments: list[str]) -> None:
    """An administrator may look, whose environment has no keys and who may not read their files."""
    home.content["stores"] = {
        "mirror": {
            "type": "bos",
            "endpoint": "https://bj.bcebos.com",
            "bucket": "photos",
            "access_key_id": "${NOT_SET_HERE_ID}",
            "secret_access_key": "${NOT_SET_HERE}",
        },
        "other": {
            "type": "s3",
            "endpoint": "http://127.0.0.1:1",
            "bucket": "photos",
            "access_key_file": str(home.root / "not-there"),
            "secret_key_file": str(home.root / "not-there-either"),
        },
    }
    home.content["sources"].append({"name": "b", "path": "./mirror", "store": "other"})
    done = home.run(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert home.run("sync").exit_code == 78


def test_check_tells_each_finding(home: Home) -> None:
    """For a person a line each, for a program JSON; thorough tries everything."""
    shown = home.run("check")
    assert shown.exit_code == 0
    assert "ok   mirror: writable" in shown.stdout
    thorough = json.loads(home.run("check", "--thorough", "--json").stdout)["checks"]
    assert len(thorough) > len(shown.stdout.splitlines())
    assert not any(row["passed"] is False for row in thorough)


def test_check_of_a_store_that_is_not_there_is_69(home: Home) -> None:
    """With the mark that it failed."""
    home.mirror.rmdir()
    done = home.run("check")
    assert (done.exit_code, "FAIL store mirror" in done.stdout) == (69, True)


def test_check_may_be_quiet(home: Home) -> None:
    """For a service that only wants the exit code."""
    assert home.run("check", "--config-only", "-q").output == ""
    assert "is right" in home.run("check", "--config-only").output


def test_verify_is_three_when_the_store_is_not_as_recorded(home: Home) -> None:
    """Notes alone are no failure."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    assert home.run("verify").stdout == "1 files compared, 0 serious differences, 0 notes\n"
    (home.mirror / "stray").write_text("y")
    done = home.run("verify", "--read")
    assert (done.exit_code, "note docs:stray" in done.stdout) == (0, True)
    (home.mirror / "a").unlink()
    done = home.run("verify")
    assert (done.exit_code, "FAIL docs:a: the object is missing" in done.stdout) == (3, True)
    found = json.loads(home.run("verify", "--json").stdout)
    assert (found["files"], found["serious"], len(found["differences"])) == (1, 1, 2)


def test_uploads_are_listed_and_orphans_aborted(home: Home) -> None:
    """Ours and others', for a person and for a program."""
    assert home.run("uploads").stdout == "no unfinished uploads\n"
    DirStore(DirSettings(str(home.mirror))).create_multipart_upload("lost", ObjectMeta(of_bytes(b""), 0))
    assert "orphan  mirror:lost" in home.run("uploads").stdout
    assert len(json.loads(home.run("uploads", "--json").stdout)["orphans"]) == 1
    assert "(aborted)" in home.run("uploads", "--abort-orphans").stdout
    assert home.run("uploads").stdout == "no unfinished uploads\n"


def test_units_are_printed(home: Home) -> None:
    """``install-service --print`` writes nothing."""
    done = CliRunner().invoke(cli, ["install-service", "--user", "--print", "-c", home.write()])
    assert done.exit_code == 0
    assert "[Service]" in done.stdout


def test_the_module_runs(home: Home) -> None:
    """``python -m syncd`` is the same program."""
    process = home.start("status", "--json")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output)["daemon"]["running"] is False

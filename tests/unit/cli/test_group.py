"""The command group: help, version, usage, and the errors of every command."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from syncd import __version__
from syncd.cli import common
from syncd.cli.group import COMMANDS, cli
from tests.unit.cli.home import Home

ARGUMENTS = {"explain": ("a",), "restore": ("--to", "x")}
"""What a command cannot do without."""


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, option: str) -> None:
    """Without a configuration; its first line is also what the help of the group says about it."""
    shown, every = CliRunner().invoke(cli, [command, option]), CliRunner().invoke(cli, [option])
    assert (shown.exit_code, every.exit_code) == (0, 0)
    summary = COMMANDS[command][1]
    assert f"\n\n  {summary}\n" in shown.output
    assert re.search(rf"^  {command} +{re.escape(summary)}$", every.output, re.MULTILINE)


def test_looking_for_a_command_imports_no_other() -> None:
    """``--version`` and ``--help`` import no command, and one command none of the others."""
    program = "import sys; from syncd.cli.group import cli; cli(sys.argv[1:], standalone_mode=False)"
    program += "; print(*(name for name in sys.modules if name.startswith('syncd.')), file=sys.stderr)"
    for arguments, allowed in (["--version"], set()), (["--help"], set()), (["uploads", "-h"], {"uploads"}):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        loaded = {name.removeprefix("syncd.cli.") for name in done.stderr.split()}
        assert "group" in loaded
        assert {module for module, _ in COMMANDS.values()} & loaded == allowed
        loaded -= {"syncd.daemon", "syncd.daemon.control"}
        assert not any(name.startswith(("syncd.daemon", "syncd.pipeline")) for name in loaded) or allowed


ASKING = [
    "status", "pending", "history", "health", "pause", "resume", "flush", "rescan", "retry",
    "limit", "reload",
]  # fmt: skip
"""The commands that ask a daemon and, where it answers, do nothing themselves."""


NEEDS = {"click", "msgspec"}
SYNC_NEEDS = NEEDS | {"xxhash", "yaml"}
"""The libraries of others that a command may import; `SYNC_NEEDS` for a pass to a directory."""


def _libraries(loaded: set[str]) -> set[str]:
    """The packages of others among modules, but for what these and the interpreter bring themselves."""
    brought = {"syncd", "sitecustomize", "typing_extensions", "cython_runtime", *sys.stdlib_module_names}
    return {top for name in loaded if not (top := name.partition(".")[0]).startswith("_")} - brought


def _modules_after(program: str, *arguments: str) -> set[str]:
    program = f"import sys; {program}; print('', *sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


def test_each_command_imports_what_it_needs(home: Home) -> None:
    """Those that ask the daemon: hardly more than click. A pass to a directory: no HTTP and no screen."""
    each = f"from syncd.cli.group import cli; [cli.get_command(None, name) for name in {ASKING}]"
    loaded = _modules_after(each)
    ours = {name for name in loaded if name.startswith("syncd.")} - {f"syncd.cli.{name}" for name in ASKING}
    assert _libraries(loaded) <= NEEDS
    assert not loaded & {"sqlite3", "socketserver", "asyncio"}
    assert ours <= {
        "syncd.cli", "syncd.cli.answers", "syncd.cli.asking", "syncd.cli.common", "syncd.cli.group",
        "syncd.daemon",
        "syncd.daemon.control", "syncd.config", "syncd.config.places",
    }  # fmt: skip
    (home.watched / "a").write_text("x")
    loaded = _modules_after(
        "from syncd.cli.sync import command; sys.exit = lambda code: None; "
        "command(sys.argv[1:], standalone_mode=False)",
        "-c",
        home.write(),
    )
    assert {"sqlite3", "syncd.storage.dir.store"} <= loaded
    assert _libraries(loaded) == SYNC_NEEDS
    assert not loaded & {"ssl", "http.client", "email", "asyncio", "zoneinfo", "importlib.metadata"}
    assert not any(name.startswith(("syncd.storage.http.", "syncd.storage.bos.")) for name in loaded)


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


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "install-service"])
def test_a_wrong_configuration_is_78_with_every_mistake(home: Home, command: str) -> None:
    """Before anything is made or asked."""
    home.content |= {"sources": [{"name": "docs", "pth": "x", "store": "miror"}], "lgo": {}}
    done = home.run(command, *ARGUMENTS.get(command, ()))
    assert done.exit_code == common.EXIT_CONFIG
    for word in ("pth", "miror", "lgo"):
        assert word in done.stderr
    assert "Traceback" not in done.output
    assert not (home.root / "state").exists()


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    """As click does for options."""
    for typed, words in ("stauts", "Did you mean 'status'?"), ("frobnicate", "No such command 'frobnicate'."):
        done = CliRunner().invoke(cli, [typed])
        assert (done.exit_code, words in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "--store", "\x1b[31m", "--to", "x"],
        ["sync", "--allow-deletes", "\x1b[31m"],
        ["adopt", "\x1b[31m"],
        ["status", "/nowhere/\x1b[31m"],
        ["history", "\x1b[31m"],
        ["check", "-c", "\x1b[31m.yaml"],
        ["status"],
    ],
)
def test_no_message_carries_what_a_terminal_obeys(arguments: list[str], home: Home) -> None:
    """What was typed, and what the configuration says, may have come from anywhere."""
    home.content["state_dir"] = "./st\x1b[33m"
    done = home.run(*arguments) if "-c" not in arguments else CliRunner().invoke(cli, arguments)
    assert "\x1b" not in done.output
    assert "\\x1b[3" in done.output

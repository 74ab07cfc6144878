"""The command group: help, version, usage, and the errors of every command."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from syncd import __version__
from syncd.cli import common
from syncd.cli.app import COMMANDS, cli
from tests.unit.cli.home import Home


def test_help_names_every_command() -> None:
    """Each with a line that says what it is for: the first one of its own help."""
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for command, (_, summary) in COMMANDS.items():
        assert f"  {command} " in shown.output
        assert summary in shown.output
        assert f"\n\n  {summary}\n" in CliRunner().invoke(cli, [command, "--help"]).output


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


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "install-service"])
def test_a_wrong_configuration_is_78_with_every_mistake(home: Home, command: str) -> None:
    """Before anything is made or asked."""
    home.content |= {"sources": [{"name": "docs", "pth": "x", "store": "miror"}], "lgo": {}}
    done = home.run(command)
    assert done.exit_code == common.EXIT_CONFIG
    for word in ("pth", "miror", "lgo"):
        assert word in done.stderr
    assert "Traceback" not in done.output
    assert not (home.root / "state").exists()


def test_the_module_runs(home: Home) -> None:
    """``python -m syncd`` is the same program."""
    process = home.start("status", "--json")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output)["daemon"]["running"] is False

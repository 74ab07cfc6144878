"""What the commands share: finding the configuration, verbosity, exit codes, opening the state."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from syncd.cli import common
from syncd.cli.group import cli
from syncd.core.errors import (
    AccessRefused,
    ConfigError,
    FileUnreadable,
    PartCorrupt,
    StateError,
    StoreRefused,
    StoreUnavailable,
)
from tests.unit.cli.home import Home


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


def test_levels_are_counted_from_the_configuration(home: Home) -> None:
    """-v says more, -q less; twice, errors only."""
    (home.watched / "a").write_text("x")
    assert "uploaded" in home.run("sync").stderr
    (home.watched / "b").write_text("x2")
    assert home.run("sync", "-q").stderr == ""
    (home.watched / "c").symlink_to("a")
    assert "skipped" in home.run("sync", "-v").stderr


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
    assert common.exit_code(error) == code


def test_a_state_is_read_beside_its_writer(home: Home) -> None:
    """What is committed is seen; nothing can be written."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    with common.open_state(home.settings.state_dir) as state:
        assert state.recorded_totals("docs")[0] == 1
        with pytest.raises(StateError):
            state.learn("a", "b", "c")


@pytest.mark.parametrize("there", [False, True])
def test_where_there_is_no_state_yet_it_is_empty_and_stays_away(tmp_path: Path, there: bool) -> None:
    """Looking makes nothing."""
    directory = tmp_path / "state"
    if there:
        directory.mkdir()
    with common.open_state(str(directory)) as state:
        assert state.recorded_totals("docs") == (0, 0)
    assert directory.exists() is there
    assert not there or os.listdir(directory) == []


def test_a_state_that_may_not_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong user gets an error."""

    def refuse(path: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(StateError, match="Permission denied"), common.open_state(str(tmp_path)):
        pass

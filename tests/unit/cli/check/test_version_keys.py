"""`syncd check --thorough` on keys that begin with ``v1/``: proven on the bucket, remembered, or refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from syncd.cli import common
from syncd.cli.check import version_keys
from syncd.cli.group import cli
from syncd.config import load
from syncd.config.load import Settings
from syncd.core.errors import StoreRefused
from syncd.state.state import State
from tests.support.bos_server import BosServer

CONFIG = """
state_dir: ./state
stores:
  bos: {{type: bos, endpoint: 'http://bj.bcebos.com', bucket: photos, proxy: '{proxy}', access_key_id: ak,
         secret_access_key: sk}}
sources: [{{name: docs, path: ./docs, store: bos, prefix: '{prefix}'}}]
"""
NOTHING = {"objects": {}, "uploads": {}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    """Reached by the names of the real service."""
    with BosServer(tmp_path / "bos") as running:
        yield running


def settings(server: BosServer, tmp_path: Path, prefix: str = "") -> Settings:
    """Those of a machine on which syncd has run."""
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(proxy=server.url, prefix=prefix))
    State.open(str(tmp_path / "state"), now_ns=time.time_ns).close()
    return load.load(str(file), {"HOME": str(tmp_path)})


def examine(wanted: Settings) -> list[tuple[bool | None, str]]:
    """What is reported."""
    told: list[tuple[bool | None, str]] = []
    version_keys.examine(wanted, "bos", lambda name, passed, detail: told.append((passed, detail)))
    return told


def is_taken(wanted: Settings) -> bool:
    """Whether a tool takes such a key now."""
    with common.open_store(wanted, "bos") as store, closing(store):
        try:
            return store.head_object("v1/a") is None
        except StoreRefused:
            return False


def test_what_the_bucket_proves_is_remembered_until_it_disproves_it(
    server: BosServer, tmp_path: Path
) -> None:
    """A bucket that keeps the prefix would have the file under another key. Nothing is left of it."""
    wanted = settings(server, tmp_path)
    assert not is_taken(wanted)
    ((passed, detail),) = examine(wanted)
    assert passed is True, detail
    assert (is_taken(wanted), server.contents("photos")) == (True, NOTHING)
    (tmp_path / "docs" / "v1").mkdir(parents=True)
    (tmp_path / "docs" / "v1" / "a").write_text("x")
    assert CliRunner().invoke(cli, ["sync", "-c", wanted.path]).exit_code == 0
    assert list(server.contents("photos")["objects"]) == ["v1/a"]
    server.disk.buckets["photos"].objects.clear()
    server.change({"drops_v1": False})
    ((passed, detail),) = examine(wanted)
    assert (passed, "listed: nothing" in detail) == (None, True)
    assert (is_taken(wanted), server.contents("photos")) == (False, NOTHING)


def test_a_prefix_below_v1_works_once_it_is_proven(server: BosServer, tmp_path: Path) -> None:
    """Until then `check` fails and names the remedy, and a pass leaves each file with it."""
    wanted = settings(server, tmp_path, "v1/docs/")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("x")

    def ran(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, [*words, "-c", wanted.path])
        return done.exit_code, done.output

    for command in ("check", "sync"):
        code, text = ran(command)
        assert code != 0
        assert "give the source another prefix, or run `syncd check --thorough`" in text
    assert server.contents("photos") == NOTHING
    code, text = ran("check", "--thorough")
    assert code == 0, text
    assert "ok   bos: writable" in text
    assert server.contents("photos") == NOTHING
    assert ran("sync")[0] == 0
    assert list(server.contents("photos")["objects"]) == ["v1/docs/a"]
    assert ran("verify")[0] == 0


def test_an_answer_that_proves_nothing_changes_nothing(server: BosServer, tmp_path: Path) -> None:
    """Keys that may not write below v1/, for instance."""
    wanted = settings(server, tmp_path)
    examine(wanted)
    account = server.accounts.pop("ak")
    ((passed, detail),) = examine(wanted)
    assert (passed, "could not find out" in detail) == (None, True)
    server.accounts["ak"] = account
    assert is_taken(wanted)


def test_a_source_with_a_prefix_makes_no_such_keys(server: BosServer, tmp_path: Path) -> None:
    """And nothing is put outside of it."""
    assert examine(settings(server, tmp_path, "docs/")) == []
    assert server.count() == 0

"""The configuration as settings: where it is found, what its values become, and files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.config import load as config
from syncd.config.units import parse_bandwidth
from syncd.core.errors import ConfigError
from syncd.core.model import OnDelete, Source, TransferPolicy
from syncd.storage.settings import DirSettings
from tests.unit.config.loading import FOR_STORE, SMALL, load

MIB = 1 << 20


def test_a_small_configuration_has_the_defaults(tmp_path: Path) -> None:
    """What is left out has the default of the model."""
    settings = load(tmp_path, SMALL)
    assert (Source("a", str(tmp_path / "watched"), "nas"),) == settings.sources
    assert {"nas": DirSettings(str(tmp_path / "mirror"))} == settings.stores
    assert TransferPolicy() == settings.transfer
    assert config.LogSettings("info", "auto") == settings.log
    assert settings.warnings == ()


def test_every_value_reaches_the_settings(tmp_path: Path) -> None:
    """All keys of sources, transfer and log arrive as what they mean."""
    text = """
stores: {nas: {type: dir, path: /mnt/nas/mirror}}
sources:
  - name: Fotos-2024
    path: ~/photos
    store: nas
    prefix: camera/raw/
    include: ["*.jpg", "!x.jpg"]
    exclude: ["*.tmp", ".git/"]
    settle: 500ms
    rescan_interval: 1h30m
    on_delete: delete
    max_delete: 50
  - {name: b, path: ./b, store: nas, prefix: b/, settle: 0, max_delete: 12.5%}
transfer: {concurrency: 3, part_size: 16MB, bandwidth_limit: 1M, max_attempts: 7, memory_limit: 1G}
log: {level: debug, format: json}
"""
    settings = load(tmp_path, text)
    photos = Source(
        name="Fotos-2024",
        root=str(tmp_path / "photos"),
        store="nas",
        prefix="camera/raw/",
        include=("*.jpg", "!x.jpg"),
        exclude=("*.tmp", ".git/"),
        settle_seconds=0.5,
        rescan_seconds=5400.0,
        on_delete=OnDelete.DELETE,
        max_delete_files=50,
        max_delete_fraction=1.0,
    )
    other = settings.sources[1]
    assert photos == settings.sources[0]
    assert (other.settle_seconds, other.max_delete_fraction) == (0.0, 0.125)
    assert other.max_delete_files > 10**15
    assert TransferPolicy(3, 16 * MIB, parse_bandwidth("1M"), 7, 1 << 30) == settings.transfer
    assert config.LogSettings("debug", "json") == settings.log


def test_anchors_have_a_place_at_the_top(tmp_path: Path) -> None:
    """A key that begins with x- holds what others merge."""
    text = """
x-common: &common {store: nas, settle: 5s}
stores: {nas: {type: dir, path: ./mirror}}
sources:
  - {<<: *common, name: a, path: ./a, prefix: a/}
  - {<<: *common, name: b, path: ./b, prefix: b/, settle: 1s}
"""
    assert [source.settle_seconds for source in load(tmp_path, text).sources] == [5.0, 1.0]


def test_the_state_has_its_usual_places(tmp_path: Path) -> None:
    """systemd's directory (the first of several), else the XDG state directory, else the one below home."""
    here = str(tmp_path)
    assert f"{here}/.local/state/syncd" == load(tmp_path, SMALL).state_dir
    assert f"{here}/.local/state/syncd" == load(tmp_path, SMALL, XDG_STATE_HOME="relative").state_dir
    assert f"{here}/xdg/syncd" == load(tmp_path, SMALL, XDG_STATE_HOME=f"{here}/xdg").state_dir
    both = {"STATE_DIRECTORY": f"{here}/one:{here}/two", "XDG_STATE_HOME": f"{here}/xdg"}
    assert f"{here}/one" == load(tmp_path, SMALL, **both).state_dir
    assert f"{here}/mine" == load(tmp_path, SMALL + "state_dir: ./mine", **both).state_dir


def test_commands_that_open_no_store_need_no_keys(tmp_path: Path) -> None:
    """Status and the installer read a configuration without its credentials; other mistakes count."""
    text = f"{FOR_STORE}  s:\n    type: bos\n    bucket: abc\n    region: bj\n"
    text += "    access_key_file: ${CREDENTIALS_DIRECTORY}/id\n    secret_access_key: ${KEY}\n"
    file = tmp_path / "config.yaml"
    with pytest.raises(ConfigError):
        load(tmp_path, text)
    assert [s.name for s in config.load(str(file), {"HOME": "/x"}, with_secrets=False).sources] == ["a"]
    file.write_text(text + "    storage_class: ${CLASS}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(str(file), {"HOME": "/x"}, with_secrets=False)
    assert [problem.key for problem in caught.value.problems] == ["stores.s.storage_class"]


@pytest.mark.parametrize(
    "text", ["stores: {nas: {type: dir, path: ./mirror}}\n", SMALL.split("sources")[0] + "sources: []"]
)
def test_a_command_that_looks_at_stores_needs_no_source(tmp_path: Path, text: str) -> None:
    """On a new machine there is nothing to watch yet; every other command says that a source is missing."""
    with pytest.raises(ConfigError, match="at least one source"):
        load(tmp_path, text)
    settings = config.load(str(tmp_path / "config.yaml"), {"HOME": str(tmp_path)}, with_sources=False)
    assert (settings.sources, list(settings.stores)) == ((), ["nas"])


@pytest.mark.parametrize("sources", ["{a: b}", "[{name: a}]", "a"])
def test_sources_that_are_there_have_to_be_right(tmp_path: Path, sources: str) -> None:
    """For every command."""
    with pytest.raises(ConfigError):
        load(tmp_path, f"stores: {{nas: {{type: dir, path: ./mirror}}}}\nsources: {sources}")
    with pytest.raises(ConfigError):
        config.load(str(tmp_path / "config.yaml"), {"HOME": str(tmp_path)}, with_sources=False)


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    """Missing, a directory, a fifo, empty, too large, or not a mapping: one clear sentence."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "list").write_text("- a\n")
    (tmp_path / "text").write_text("secret\n")
    (tmp_path / "large").write_bytes(b"#" * (config.MAX_FILE_SIZE + 1))
    keys = (
        "a mapping with the keys `state_dir`, `stores`, `sources`, `transfer`, `log`, `http`, `stop`, "
        "`stop_timeout`, `audit_interval`, `max_repair`"
    )
    expected = {
        "missing": "found a file that cannot be read (No such file or directory); expected a YAML file",
        ".": "found a directory; expected a YAML file",
        "fifo": "found something that is not a regular file; expected a YAML file",
        "empty": "found an empty file; expected `stores` and `sources`",
        "list": f"1: found a list; expected {keys}",
        "text": f"1: found text; expected {keys}",
        "large": "found more than 1 MiB; expected a smaller configuration",
        "\0": "found a name that no file can have; expected a YAML file",
    }
    for name, words in expected.items():
        path = str(tmp_path / name) if name != "\0" else name
        with pytest.raises(ConfigError) as caught:
            config.load(path, {"HOME": str(tmp_path)})
        (problem,) = caught.value.problems
        assert words == str(problem).removeprefix(f"{path}:").strip()

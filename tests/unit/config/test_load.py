"""The configuration as settings: where it is found, what its values become, what is only warned of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from syncd.config import (
    load as config,
)
from syncd.config import (
    reader as config_model,
)
from syncd.config import (
    sources as config_rules,
)
from syncd.config import (
    stores as config_stores,
)
from syncd.core.errors import ConfigError
from syncd.core.model import OnDelete, Source, TransferPolicy
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings, KeySettings, S3Settings

MIB = 1 << 20
SMALL = """
stores:
  nas: {type: dir, path: ./mirror}
sources:
  - {name: a, path: ./watched, store: nas}
"""

FOR_STORE = "sources: [{name: a, path: ./w, store: s}]\nstores:\n"  # what is wrong with `s` is below line 2


def load(place: Path, text: str, **environ: str) -> config.Settings:
    """The settings in `text`, in a file at `place`, whose home and state directories are there too."""
    file = place / "config.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return config.load(str(file), {"HOME": str(place), **environ})


def load_store(place: Path, *lines: str, **environ: str) -> Any:
    """The settings of one store."""
    text = f"sources: [{{name: a, path: ./watched, store: s}}]\nstores:\n  s: {{{', '.join(lines)}}}"
    return load(place, text, **environ).stores["s"]


def said(error: ConfigError) -> list[str]:
    """The problems, one line each."""
    return [str(problem) for problem in error.problems]


# ---- values -----------------------------------------------------------------------------------------------


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
    assert TransferPolicy(3, 16 * MIB, MIB, 7, 1 << 30) == settings.transfer
    assert config.LogSettings("debug", "json") == settings.log


def test_a_bos_store(tmp_path: Path) -> None:
    """All keys of a store of type bos; https where the endpoint names no scheme."""
    (tmp_path / "ca.pem").write_text("x")
    bos = load_store(
        tmp_path,
        "type: bos, bucket: photos, endpoint: bj.bcebos.com, access_key_id: id, secret_access_key: '${KEY}'",
        "session_token: token, storage_class: STANDARD_IA, path_style: true, traffic_limit: 1MiB",
        "proxy: 'user:pw@proxy:3128', ca_bundle: ca.pem, trust_environment: yes",
        "connect_timeout: 1s, read_timeout: 2s, progress_timeout: 3s",
        KEY="secret$key",
    )
    http = HttpSettings(
        "https://bj.bcebos.com", "http://user:pw@proxy:3128", str(tmp_path / "ca.pem"), True, 1.0, 2.0, 3.0
    )
    assert (
        BosSettings(http, "photos", True, "STANDARD_IA", MIB, KeySettings("id", "secret$key", "token")) == bos
    )


def test_a_bos_region_is_an_endpoint(tmp_path: Path) -> None:
    """A region stands for the address of its native endpoint."""
    bos = load_store(tmp_path, "type: bos, bucket: abc, region: gz, access_key_id: a, secret_access_key: b")
    assert bos.http.endpoint == "https://gz.bcebos.com"


def test_an_s3_store(tmp_path: Path) -> None:
    """All keys of a store of type s3, with its keys in files below the credentials directory."""
    for name in ("id", "key", "token"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o400)
    s3 = load_store(
        tmp_path,
        "type: s3, bucket: Old_Bucket, endpoint: 'http://127.0.0.1:9000/', region: eu-west-1",
        "path_style: false, storage_class: GLACIER, integrity: crc32",
        "access_key_file: '${CREDENTIALS_DIRECTORY}/id'",
        "secret_key_file: ./key, session_token_file: ~/token",
        CREDENTIALS_DIRECTORY=str(tmp_path),
    )
    keys = KeySettings(
        access_key_file=str(tmp_path / "id"),
        secret_key_file=str(tmp_path / "key"),
        session_token_file=str(tmp_path / "token"),
    )
    http = HttpSettings("http://127.0.0.1:9000")
    assert S3Settings(http, "Old_Bucket", "eu-west-1", False, "GLACIER", "crc32", keys) == s3


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("us-east-1", "https://s3.us-east-1.amazonaws.com"),
        ("eu-central-1", "https://s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_an_s3_store_without_endpoint_is_at_amazon(region: str, endpoint: str, tmp_path: Path) -> None:
    """The region says where; without keys, the standard chain is asked."""
    s3 = load_store(tmp_path, f"type: s3, bucket: abc, region: {region}")
    assert S3Settings(HttpSettings(endpoint), "abc", region) == s3
    assert endpoint == config_stores.address(config_model.S3Entry(bucket="abc", region=region))


def test_numbers_and_flags_may_come_from_the_environment(tmp_path: Path) -> None:
    """What the environment holds is text; where a number or a flag belongs, it is read as one."""
    text = SMALL + "transfer: {concurrency: '${N}', part_size: '${SIZE}', bandwidth_limit: '${ZERO}'}\n"
    text += "x-unused: ${FLAG}"
    settings = load(tmp_path, text, N="12", SIZE="6MiB", ZERO="0", FLAG="true")
    assert TransferPolicy(concurrency=12, part_size=6 * MIB) == settings.transfer
    s3 = load_store(tmp_path, "type: s3, bucket: '${N}', path_style: '${FLAG}'", N="123", FLAG="true")
    assert (s3.bucket, s3.path_style) == ("123", True)


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


# ---- paths ------------------------------------------------------------------------------------------------


def test_a_root_that_is_a_link_is_resolved(tmp_path: Path) -> None:
    """Events and scans name files below the real directory; a store keeps the name that it was given."""
    for name in ("real", "store"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-link").symlink_to(name)
    settings = load(tmp_path, SMALL.replace("watched", "real-link").replace("mirror", "store-link"))
    assert str(tmp_path / "real") == settings.sources[0].root
    assert {"nas": DirSettings(str(tmp_path / "store-link"))} == settings.stores


def test_neighbours_do_not_overlap(tmp_path: Path) -> None:
    """Directories and prefixes are compared by whole names: a and ab are neighbours."""
    text = """
stores: {nas: {type: dir, path: ./watched-mirror}, other: {type: dir, path: ./watched-mirror-2}}
state_dir: ./watched-state
sources:
  - {name: a, path: ./watched, store: nas, prefix: a/}
  - {name: b, path: ./watched2, store: nas, prefix: ab/}
  - {name: c, path: ./watched3, store: other}
"""
    assert len(load(tmp_path, text).sources) == 3


def test_the_state_has_its_usual_places(tmp_path: Path) -> None:
    """systemd's directory (the first of several), else the XDG state directory, else the one below home."""
    here = str(tmp_path)
    assert f"{here}/.local/state/syncd" == load(tmp_path, SMALL).state_dir
    assert f"{here}/.local/state/syncd" == load(tmp_path, SMALL, XDG_STATE_HOME="relative").state_dir
    assert f"{here}/xdg/syncd" == load(tmp_path, SMALL, XDG_STATE_HOME=f"{here}/xdg").state_dir
    both = {"STATE_DIRECTORY": f"{here}/one:{here}/two", "XDG_STATE_HOME": f"{here}/xdg"}
    assert f"{here}/one" == load(tmp_path, SMALL, **both).state_dir
    assert f"{here}/mine" == load(tmp_path, SMALL + "state_dir: ./mine", **both).state_dir


MOUNTS = b"""\
1 0 0:1 / / rw - ext4 /dev/a rw
2 1 0:2 / /home rw - nfs4 server:/home rw
3 2 0:3 / /home/local rw - ext4 /dev/b rw
4 1 0:4 / /box rw - fuse.fuse-overlayfs x rw
5 1 0:5 / /far rw - fuse.sshfs x rw
6 1 0:6 / /guest rw - virtiofs x rw
7 1 0:7 / /win rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/syncd", None),
        ("/home/me/.local/state/syncd", "nfs4"),
        ("/home/local/state", None),
        ("/box/state", None),
        ("/far/state", "fuse.sshfs"),
        ("/guest/state", None),
        ("/win", "cifs"),
        ("/windows", None),
    ],
)
def test_the_state_is_not_kept_on_a_network(
    path: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's table of mounts says what holds the state; network file systems cannot."""
    (tmp_path / "mountinfo").write_bytes(MOUNTS)
    monkeypatch.setattr("syncd.sources.mounts.TABLE", str(tmp_path / "mountinfo"))
    assert kind == config_rules.network_type(path)


def test_a_state_on_a_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem names the type of the file system and what to use instead."""
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr("syncd.sources.mounts.TABLE", str(tmp_path / "mountinfo"))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, SMALL + "state_dir: ./state")
    expected = (
        f"{tmp_path}/config.yaml:6: state_dir: found `./state`, on a network file system (nfs4); "
        "expected a directory on a local disk: the database shares memory between its users"
    )
    assert [expected] == said(caught.value)


# ---- warnings and secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        ("http://minio.lan:9000", True),
        ("http://127.0.0.1:9000", False),
        ("http://localhost:9000", False),
        ("http://s3.localhost", False),
        ("http://[::1]:9000", False),
        ("http://localhost.example.org", True),
        ("https://minio.lan", False),
        ("minio.lan", False),
    ],
)
def test_plain_http_to_another_machine_is_warned_of(endpoint: str, warned: bool, tmp_path: Path) -> None:
    """It may be meant so, in a closed network; but it is said, with the line."""
    text = f"{FOR_STORE}  s:\n    type: s3\n    bucket: abc\n    endpoint: '{endpoint}'"
    warning = (
        f"{tmp_path}/config.yaml:6: stores.s.endpoint: `{endpoint}` is plain http: "
        "everybody on the way can read what is sent"
    )
    assert ((warning,) if warned else ()) == load(tmp_path, text).warnings


def test_a_key_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    """A key file, or the configuration with a key in it, that others can read works, but is said."""
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o644)
    text = (
        "sources: [{name: a, path: ./w, store: s}]\nstores:\n  s: {type: s3, bucket: abc, access_key_id: id,"
    )
    file = tmp_path / "config.yaml"
    warned = load(tmp_path, f"{text} secret_key_file: ./key}}").warnings
    expected = (
        f"{file}:3: stores.s.secret_key_file: `./key` can be read by everybody on this machine "
        "(mode 0644); chmod 600 helps"
    )
    assert (expected,) == warned
    load(tmp_path, f"{text} secret_access_key: hidden}}")
    file.chmod(0o644)
    expected = (
        f"{file}:3: stores.s.secret_access_key: text that is not shown is written in a file that everybody "
        "on this machine can read; chmod 600 keeps it private"
    )
    assert (expected,) == config.load(str(file), {"HOME": str(tmp_path)}).warnings
    file.write_text(f"{text} secret_access_key: '${{KEY}}'}}")
    assert config.load(str(file), {"HOME": str(tmp_path), "KEY": "hidden"}).warnings == ()


def test_who_only_looks_needs_no_keys(tmp_path: Path) -> None:
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


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    """Settings can be logged: neither keys nor a proxy's password are shown."""
    text = f"{FOR_STORE}  s: {{type: s3, bucket: abc, access_key_id: hidden1,"
    text += " secret_access_key: hidden2, session_token: '${TOKEN}', proxy: 'http://me:hidden4@proxy'}"
    settings = load(tmp_path, text, TOKEN="hidden3")
    assert "hidden" not in repr(settings)
    draft = config_model.S3Entry(secret_access_key="hidden", proxy="http://me:hidden@proxy")
    assert "hidden" not in repr(draft)
    assert isinstance(settings.stores["s"], S3Settings)
    assert settings.stores["s"].keys.session_token == "hidden3"


# ---- the file ---------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    """Missing, a directory, a fifo, empty, too large, or not a mapping: one clear sentence."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "list").write_text("- a\n")
    (tmp_path / "text").write_text("secret\n")
    (tmp_path / "large").write_bytes(b"#" * (config.MAX_FILE_SIZE + 1))
    keys = "a mapping with the keys `state_dir`, `stores`, `sources`, `transfer`, `log`"
    expected = {
        "missing": "found a file that cannot be read (No such file or directory); expected a YAML file",
        ".": "found a directory; expected a YAML file",
        "fifo": "found something that is not a regular file; expected a YAML file",
        "empty": "found an empty file; expected `stores` and `sources`",
        "list": f"1: found a list; expected {keys}",
        "text": f"1: found text; expected {keys}",
        "large": "found more than 1 MiB; expected a configuration, which is smaller",
        "\0": "found a name that no file can have; expected a YAML file",
    }
    for name, words in expected.items():
        path = str(tmp_path / name) if name != "\0" else name
        with pytest.raises(ConfigError) as caught:
            config.load(path, {"HOME": str(tmp_path)})
        (problem,) = caught.value.problems
        assert words == str(problem).removeprefix(f"{path}:").strip()


def test_the_file_is_found_in_its_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, $SYNCD_CONFIG, the user's directory, the machine's: the first that there is."""
    machine, user = tmp_path / "machine.yaml", tmp_path / "xdg" / "syncd" / "config.yaml"
    monkeypatch.setattr(config, "SYSTEM_FILE", str(machine))
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    with pytest.raises(ConfigError) as caught:
        config.find(None, environ)
    expected = (
        f"configuration: found no file; looked at {user} and {machine}, and $SYNCD_CONFIG is not set; "
        "expected one of these, or another file with `-c FILE`"
    )
    assert [expected] == said(caught.value)
    machine.touch()
    assert str(machine) == config.find(None, environ)
    user.parent.mkdir(parents=True)
    user.touch()
    assert str(user) == config.find(None, environ)
    assert config.find(None, {**environ, "SYNCD_CONFIG": "/some/where"}) == "/some/where"
    assert config.find("mine", {**environ, "SYNCD_CONFIG": "/some/where"}) == "mine"
    assert str(machine) == config.find(None, {"HOME": str(tmp_path)})

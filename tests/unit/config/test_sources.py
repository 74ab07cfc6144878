"""Sources beside each other, beside stores and beside the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config.sources import network_type
from syncd.core.errors import ConfigError
from syncd.storage.settings import DirSettings
from tests.support import mounting
from tests.unit.config.loading import SMALL, load, said


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


@pytest.mark.parametrize(("place", "kind"), [("/proc", "proc"), ("/proc/self/fd", "proc"), ("/sys", "sysfs")])
def test_a_root_that_the_kernel_makes_up_is_refused(place: str, kind: str, tmp_path: Path) -> None:
    """By the type of its file system, also where a link leads to it."""
    (tmp_path / "link").symlink_to(place)
    for written in (place, "./link"):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, SMALL.replace("./watched", written))
        assert f"whose files the kernel makes up (file system {kind})" in str(caught.value)


ONE = "sources: [{name: s, path: ./src, store: m}]"
BOUND = [
    ("src", "stores: {m: {type: dir, path: ./mnt}}", ONE,
     "stores.m.path: found `./mnt`, which is also source `s` (line 3) by a bind mount"),
    ("src/sub", "stores: {m: {type: dir, path: ./mnt/deep}}", ONE,
     "stores.m.path: found `./mnt/deep`, which is inside source `s` (line 3) by a bind mount"),
    ("store/sub", "stores: {m: {type: dir, path: ./store}}", ONE.replace("src", "mnt"),
     "sources[0].path: found `./mnt`, which is inside store `m` (line 2) by a bind mount"),
    ("src/sub", "stores: {m: {type: dir, path: ./store}}",
     "sources: [{name: s, path: ./src, store: m, prefix: s}, {name: t, path: ./mnt, store: m, prefix: t}]",
     "sources[1].path: found `./mnt`, which is inside source `s` (line 3) by a bind mount"),
    ("store", "stores: {m: {type: dir, path: ./store}, n: {type: dir, path: ./mnt}}",
     "sources: [{name: s, path: ./src, store: m, prefix: a}, {name: t, path: ./x, store: n, prefix: a/b}]",
     "sources[1].prefix: found the prefix `a/b` in the same place as source `s` (line 3) by a bind mount"),
    ("src", "stores: {m: {type: dir, path: ./store}}\nstate_dir: ./mnt/state", ONE,
     "inside source `s` (line 4) by a bind mount"),
]  # fmt: skip
"""What is bound to ``mnt``, stores and sources of a file, and what is said of it."""


@pytest.mark.parametrize(("bound", "stores", "sources", "said"), BOUND)
def test_one_directory_under_two_paths_is_one_directory(
    bound: str, stores: str, sources: str, said: str, tmp_path: Path
) -> None:
    """A bind mount has another path, and no link in it. A store would write into the folder that it is to
    copy, and two sources or stores would be one without knowing."""
    for name in ("src/sub", "store/sub", "x"):
        (tmp_path / name).mkdir(parents=True)
    bind = mounting.mounted("--bind", str(tmp_path / bound), at=tmp_path / "mnt")
    with bind, pytest.raises(ConfigError) as caught:
        load(tmp_path, f"\n{stores}\n{sources}\n")
    assert said in str(caught.value)


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
    assert kind == network_type(path)


def test_a_state_on_a_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem names the type of the file system and what to use instead."""
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr("syncd.sources.mounts.TABLE", str(tmp_path / "mountinfo"))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, SMALL + "state_dir: ./state")
    expected = (
        f"{tmp_path}/config.yaml:6: state_dir: found `./state`, on a network file system (nfs4); "
        "expected a directory on a local disk, because the database needs shared memory"
    )
    assert [expected] == said(caught.value)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{root}/private/", "write `/private/`"),
        ("!{root}/private/", "write `/private/`"),
        ("~/private/", "begin with `~`"),
        ("*.{{key,pem}}", "one for each"),
        ("*.jpg, *.png", "one for each"),
        ("*.jpg|*.png", "one for each"),
        ("$HOME/private/", "begin with `$`"),
        ("glob:*.jpg", "leave that out"),
        ("+ *.jpg", "`include` and `exclude`"),
        (r".*\.jpg$", "no regular expression"),
        ("^cache", "no regular expression"),
        (" cache", "begin with a blank"),
        ("/private/", ""),
        ("a{{b}}c", ""),
        ("backup~", ""),
        ("~$*", ""),
        ("a, b", ""),
        ("$RECYCLE.BIN/", ""),
        ("[[:digit:]]*", ""),
    ],
)
def test_a_pattern_that_is_another_tools_is_warned_of(pattern: str, words: str, tmp_path: Path) -> None:
    """With what to write instead: it would match nothing, in silence. Each warning has its line."""
    (tmp_path / "w").mkdir()
    written = pattern.format(root=tmp_path / "w")
    text = "stores: {d: {type: dir, path: ./d}}\n"
    text += f"sources: [{{name: a, path: ./w, store: d, exclude: ['x', '{written}']}}]"
    warnings = load(tmp_path, text).warnings
    assert len(warnings) == (1 if words else 0)
    assert all("sources[0].exclude[1]: " in line and words in line for line in warnings)

"""Markers, other file systems and sizes leave files out; what only resembles a marker does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.core.model import FileStat, Fingerprint, Irregular, Recorded, Source
from syncd.core.patterns import Verdict
from syncd.sources import directories, selection
from tests.support import mounting

TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# by a test\n"


def _way(root: Path, path: str, **rules: object) -> Verdict | None:
    root_fd = directories.open_root(str(root))
    try:
        source = Source("s", str(root), "store", **rules)  # type: ignore[arg-type]
        return selection.of_way(root_fd, source, path)
    finally:
        os.close(root_fd)


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (TAG, True),
        (TAG[:43], True),
        (TAG[:42], False),
        (b"", False),
        (b" " + TAG, False),
        (TAG.lower(), False),
    ],
)
def test_a_cache_tag_counts_by_its_signature(content: bytes, counts: bool, tmp_path: Path) -> None:
    """As the specification of cache directory tags has it: the first 43 bytes."""
    (tmp_path / "CACHEDIR.TAG").write_bytes(content)
    found = _way(tmp_path, "", exclude_if_present=("CACHEDIR.TAG",))
    assert (found is not None) is counts


def test_what_only_bears_the_name_is_no_marker(tmp_path: Path) -> None:
    """A link to a tag, a fifo, a folder; for other names, a folder."""
    markers = ("CACHEDIR.TAG", ".nobackup")
    (tmp_path / "real").write_bytes(TAG)
    for name in ("link", "pipe", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "link/CACHEDIR.TAG").symlink_to("../real")
    os.mkfifo(tmp_path / "pipe/CACHEDIR.TAG")
    (tmp_path / "folder/CACHEDIR.TAG").mkdir()
    (tmp_path / "folder/.nobackup").mkdir()
    for name in ("link", "pipe", "folder"):
        assert _way(tmp_path, name, exclude_if_present=markers) is None


def test_the_nearest_to_the_root_is_named_and_nothing_missing_is_an_error(tmp_path: Path) -> None:
    """A marker counts for all that is below it, also for what is not there; a file ends the way."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/.nobackup").touch()
    (tmp_path / "a/b/c/.nobackup").touch()
    rules = {"exclude_if_present": (".nobackup",)}
    found = Verdict(False, "exclude_if_present", ".nobackup", "a/b")
    for path in ("a/b", "a/b/c", "a/b/c/gone/deep", "a/b/.nobackup"):
        assert _way(tmp_path, path, **rules) == found
    for path in ("", "a", "gone/b"):
        assert _way(tmp_path, path, **rules) is None
    assert str(found) == "`exclude_if_present` names `.nobackup`, which is in a/b"
    (tmp_path / ".nobackup").touch()
    assert str(_way(tmp_path, "a", **rules)).endswith("which is in its root")


def test_another_file_system_is_left_out_where_that_is_wished(tmp_path: Path) -> None:
    """With everything below what is mounted; without the rule it belongs to the source."""
    mounting.need()
    (tmp_path / "disk").mkdir()
    with mounting.tmpfs(tmp_path / "disk", "1m"):
        (tmp_path / "disk/d").mkdir()
        found = _way(tmp_path, "disk/d", one_file_system=True)
        assert found == Verdict(False, "one_file_system", "true", "disk")
        assert _way(tmp_path, "disk/d") is None
    assert _way(tmp_path, "disk", one_file_system=True) is None


def test_what_the_kernel_makes_up_is_left_out_below_a_root(tmp_path: Path) -> None:
    """By the type of the file system, with all that is below it: sizes lie, and reading may do something."""
    with mounting.mounted("-t", "proc", "proc", at=tmp_path / "jail"):
        found = _way(tmp_path, "jail/sys/kernel")
        assert found == Verdict(False, "made_up", "proc", "jail")
        assert str(found) == "the kernel makes up what is in jail (file system proc)"
        assert selection.kind_of(found) == "directory made up by the kernel"
    assert _way(tmp_path, "jail") is None


def test_a_file_that_is_gone_is_as_large_as_its_record() -> None:
    """So a limit that is configured later deletes no object, and one that was never exceeded keeps none."""
    stat = FileStat(1, 2, 11, 0, 0)
    row = Recorded(stat, Fingerprint(bytes(16), 11), "store", "k", "e", 1)
    small = Source("s", "/s", "store", max_size=10)
    for seen in (None, Irregular("directory"), stat):
        assert str(selection.of_size(small, "a", seen, row)) == "it is larger than `max_size`, 10 B"
    assert selection.of_size(small, "a", stat._replace(size=10), row) is None
    assert selection.of_size(small, "a", None, None) is None
    assert selection.of_size(Source("s", "/s", "store"), "a", stat, row) is None

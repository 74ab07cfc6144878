"""No link is followed on the way to a file, and another name of it counts where a directory lists it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from syncd.core.errors import FileVanished
from syncd.core.model import FileStat
from syncd.sources import directories, files
from tests.unit.sources.test_fingerprint import running

pytestmark = pytest.mark.usefixtures("no_descriptor_left_open")


def test_a_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing root has vanished; a file is no root."""
    (tmp_path / "file").write_bytes(b"x")
    for path in ("missing", "file"):
        with pytest.raises(FileVanished):
            directories.open_root(str(tmp_path / path))


def test_a_very_deep_file_is_found(root: Path, root_fd: int) -> None:
    """Paths longer than the kernel takes at once are no obstacle."""
    parent = os.dup(root_fd)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=parent)
        below = os.open("d" * 200, os.O_PATH, dir_fd=parent)
        os.close(parent)
        parent = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=parent))
    os.close(parent)

    path = "/".join(["d" * 200] * 60 + ["file"])
    with files.open_file(root_fd, path) as file:
        assert files.look(root_fd, path) == file.stat()
    subprocess.run(["rm", "-rf", root / ("d" * 200)], check=True, timeout=60)


SWAP = """
import os, sys
os.chdir(sys.argv[1])
print("swapping", flush=True)
while True:
    os.rename("folder", "aside")
    os.symlink("../outside", "folder")
    os.unlink("folder")
    os.rename("aside", "folder")
"""


def test_a_swapped_link_never_leads_outside(root: Path, root_fd: int) -> None:
    """While another process swaps a folder for a link to a secret one, ten thousand looks and opens of the
    file in it find the file or nothing, never the secret."""
    (root / "folder").mkdir()
    (root / "folder" / "file").write_bytes(b"public")
    (root.parent / "outside").mkdir()
    secret = root.parent / "outside" / "file"
    secret.write_bytes(b"SECRET")
    secret_inode = secret.stat().st_ino
    told = {b"public": 0, b"": 0}
    with running(SWAP, root):
        for turn in range(500_000):
            content = b""
            with suppress(FileVanished), files.open_file(root_fd, "folder/file") as file:
                content = file.read(0, 6)
            told[content] += 1  # anything else is a KeyError
            seen = files.look(root_fd, "folder/file")
            assert seen is None or (isinstance(seen, FileStat) and seen.inode != secret_inode)
            if turn >= 10_000 and all(told.values()):
                break

    assert min(told.values()) > 0, "the race was not run: one of the two was never seen"


def test_two_names_of_one_file_are_no_other_case_of_each_other(tmp_path: Path) -> None:
    """Where case counts, hard links may differ in it alone; both are listed."""
    (tmp_path / "a").write_bytes(b"content")
    os.link(tmp_path / "a", tmp_path / "A")
    root_fd = directories.open_root(str(tmp_path))
    try:
        assert all(directories.is_spelled(root_fd, name) for name in ("a", "A"))
        (tmp_path / "A").unlink()
        assert directories.is_spelled(root_fd, "a", directories.LastNames().of)
    finally:
        os.close(root_fd)

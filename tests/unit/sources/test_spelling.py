"""Other names of a file count as its own where the directory lists them."""

from __future__ import annotations

import os
from pathlib import Path

from syncd.sources import files, spelling


def test_two_names_of_one_file_are_no_other_case_of_each_other(tmp_path: Path) -> None:
    """Where case counts, hard links may differ in it alone; both are listed."""
    (tmp_path / "a").write_bytes(b"content")
    os.link(tmp_path / "a", tmp_path / "A")
    root_fd = files.open_root(str(tmp_path))
    try:
        assert all(spelling.is_spelled(root_fd, name) for name in ("a", "A"))
        (tmp_path / "A").unlink()
        assert spelling.is_spelled(root_fd, "a", spelling.LastNames().of)
    finally:
        os.close(root_fd)

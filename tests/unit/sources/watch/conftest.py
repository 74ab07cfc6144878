"""What the tests of the watch share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sources.watch.inotify import Inotify


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that is not watched."""
    directory = tmp_path / "outside"
    directory.mkdir()
    return directory


@pytest.fixture
def kernel() -> Iterator[Inotify]:
    instance = Inotify()
    yield instance
    instance.close()

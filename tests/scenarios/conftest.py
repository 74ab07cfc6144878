"""What scenarios share: parts of the product, put together at a place of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rig import Rig
from tests.unit.daemon.conftest import Home
from tests.unit.pipeline.test_pipeline import Works


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One source and one store, with an engine between them."""
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    """A pipeline that goes on."""
    works = Works(tmp_path)
    yield works
    works.close()


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Works]:
    """A pipeline for a single pass."""
    works = Works(tmp_path, once=True)
    yield works
    works.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A configuration, and the daemon that runs with it."""
    home = Home(tmp_path)
    yield home
    home.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to watch."""
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that is not watched."""
    directory = tmp_path / "outside"
    directory.mkdir()
    return directory

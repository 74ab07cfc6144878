"""A directory, and stores in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.contract.subjects import without_extended_attributes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the store."""
    path = tmp_path / "mirror"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> DirStore:
    return DirStore(DirSettings(str(root)))


@pytest.fixture(params=["attributes", "sidecars"])
def any_store(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> DirStore:
    """With and without extended attributes."""
    if request.param == "sidecars":
        without_extended_attributes(monkeypatch)
    return DirStore(DirSettings(str(root)))

"""A folder to restore to, and each kind of store that needs no server of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.storage.base import ObjectStore
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.contract.subjects import BUCKET, BosSubject
from tests.support.bos_server import BosServer
from tests.support.store import FakeStore


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


@pytest.fixture(params=["fake", "dir", "bos"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """Each kind of store that needs no server of others."""
    if request.param == "fake":
        yield FakeStore(page_size=7)
        return
    if request.param == "dir":
        (tmp_path / "store").mkdir()
        yield DirStore(DirSettings(str(tmp_path / "store")))
        return
    server: BosServer = request.getfixturevalue("bos_server")
    server.disk.create(BUCKET)
    subject = BosSubject(server)
    opened = subject.open()
    for info in list(opened.list_objects("")):
        opened.delete_object(info.key)
    yield opened
    subject.close()

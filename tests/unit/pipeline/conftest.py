"""The houses that the tests of this folder live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import OnDelete
from tests.unit.pipeline.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def deleting(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, on_delete=OnDelete.DELETE)
    yield house
    house.close()

"""A home for each test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.daemon.logs import _Lines
from tests.unit.cli.home import Home


@pytest.fixture(autouse=True)
def no_handler_left() -> Iterator[None]:
    """Each command sets logging up on a stream of its own, which is gone afterwards."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()

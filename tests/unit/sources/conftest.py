"""What the tests of the sources share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sources import directories


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    descriptor = directories.open_root(str(root))
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def no_descriptor_left_open() -> Iterator[None]:
    """Whatever goes wrong, every descriptor is given back."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before

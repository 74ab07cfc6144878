"""What the tests of the watch share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.sources.watch.inotify import Inotify


@pytest.fixture
def kernel() -> Iterator[Inotify]:
    instance = Inotify()
    yield instance
    instance.close()

"""What the tests of the state share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.state.state import State
from tests.support.clock import FakeClock


@pytest.fixture
def state(tmp_path: Path, clock: FakeClock) -> Iterator[State]:
    opened = State.open(str(tmp_path / "state"), now_ns=clock.now_ns, monotonic=clock.monotonic)
    yield opened
    opened.close()

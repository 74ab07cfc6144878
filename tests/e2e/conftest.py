"""Figures that a test measures; the summary of the whole run shows them (see `tests/conftest.py`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import FIGURE


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Keeps a measured value under a name, for people to read; nothing is decided by it."""

    def keep(name: str, value: object) -> None:
        request.node.user_properties.append((FIGURE + name, value))

    return keep

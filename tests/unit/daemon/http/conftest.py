"""Prometheus' own tool, which reads metrics and rules."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import REQUIRE_SERVERS


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    """Runs it to its end, which has to be a good one; returns what it printed."""
    program = shutil.which("promtool")
    if program is None and os.environ.get(REQUIRE_SERVERS):
        pytest.fail("promtool is not installed")
    if program is None:
        pytest.skip("promtool is not installed")

    def run(*arguments: str, told: str = "") -> str:
        done = subprocess.run(
            [program, *arguments], input=told, capture_output=True, text=True, check=False, timeout=60
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        return printed

    return run

"""One booted box for all tests of this folder, with the Debian package of this very tree installed in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.box import Box, reason_impossible

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "systemd" / "debian" / "build-deb.sh"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built from the working tree, or the one that $SYNCD_TEST_PACKAGE names."""
    if ready := os.environ.get("SYNCD_TEST_PACKAGE"):
        return Path(ready)
    for tool in ("dpkg-deb", "/usr/bin/python3"):
        if shutil.which(tool) is None:
            pytest.skip(f"NO PACKAGE, NO TEST OF THE SERVICE: {tool} is not on this machine")
    output = tmp_path_factory.mktemp("package")
    # Not xz: half a minute for nothing here.
    environ = {**os.environ, "DEB_COMPRESS": "none"}
    built = subprocess.run(
        [str(BUILD), str(output)], env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def bare_box() -> Iterator[Box]:
    """A booted machine without syncd."""
    reason = reason_impossible()
    if reason is not None:
        pytest.skip(f"NO SERVICE WAS TESTED HERE: {reason}")
    # Short, because sockets live below it, and outside of pytest's own directory, which users may not enter.
    with tempfile.TemporaryDirectory(prefix="syncd-box-") as directory:
        share = Path(directory, "share")
        share.mkdir()
        share.chmod(0o755)
        Path(directory).chmod(0o755)
        box = Box(Path(directory, "work"), share)
        try:
            box.start()
            yield box
        finally:
            box.stop()


@pytest.fixture(scope="session")
def box(bare_box: Box, package: Path) -> Box:
    """The booted machine with the package installed, as an administrator would."""
    shutil.copy(package, bare_box.share)
    bare_box.run("dpkg", "--install", f"/mnt/box/{package.name}")
    return bare_box

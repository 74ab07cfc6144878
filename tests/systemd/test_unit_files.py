"""The unit files as files: valid, strict, of one mind, and part of what is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from syncd.cli.install import unit_text

PROJECT = Path(__file__).resolve().parents[2]
UNITS = PROJECT / "systemd"
SYSTEM = ("syncd.service", "syncd@.service")
HIGHEST_EXPOSURE = 1.8

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="NO UNIT WAS CHECKED HERE: systemd-analyze is missing (apt-get install systemd)",
)


def settings(name: str) -> list[str]:
    """The lines that say something."""
    return [line for line in (UNITS / name).read_text().splitlines() if line and line[0] not in "#["]


def analyze(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(cwd), "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "manager"),
    [("syncd.service", "--system"), ("syncd@.service", "--system"), ("user/syncd.service", "--user")],
)
def test_unit_is_valid(name: str, manager: str, tmp_path: Path) -> None:
    """systemd finds nothing to say about a unit, neither error nor warning."""
    file = tmp_path / os.path.basename(name)
    file.write_text(unit_text((UNITS / name).read_text(), [sys.executable], None))
    verified = analyze("verify", manager, "--man=no", str(file), cwd=tmp_path)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def exposure(name: str, tmp_path: Path) -> tuple[float, list[str]]:
    """The score of a unit, and the names of the settings that cost points."""
    shutil.copy(UNITS / name, tmp_path)
    told = analyze("security", "--offline=yes", "--no-pager", str(tmp_path / name), cwd=tmp_path)
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
    assert score is not None, told.stdout + told.stderr
    return float(score[1]), re.findall(r"^✗ (\S+)", told.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", SYSTEM)
def test_unit_is_hardly_exposed(name: str, tmp_path: Path) -> None:
    """The score of the sandbox stays at or below what the project promises."""
    score, _ = exposure(name, tmp_path)
    assert 0 < score <= HIGHEST_EXPOSURE


def test_documentation_gives_score_and_reasons(tmp_path: Path) -> None:
    """docs/systemd.md tells the score that the tool gives, and names each setting that costs a point."""
    score, exceptions = exposure("syncd.service", tmp_path)
    text = (PROJECT / "docs" / "systemd.md").read_text().replace("\\|", "|")  # as in a table
    assert f"**{score}**" in text
    assert [name for name in exceptions if f"`{name}`" not in text] == []


def test_instance_differs_only_in_names() -> None:
    """syncd@.service is syncd.service with the instance's name in its own places, and nothing else."""
    plain, instance = (settings(name) for name in SYSTEM)
    different = [(one, other) for one, other in zip(plain, instance, strict=True) if one != other]
    assert {one.partition("=")[0] for one, _ in different} == {
        "Description",
        "ExecStart",
        "ExecReload",
        "SyslogIdentifier",
        "StateDirectory",
        "RuntimeDirectory",
    }
    assert all("%i" in other for _, other in different)


def test_session_unit_says_what_the_system_unit_says() -> None:
    """Except for its target, the user's unit sets nothing that the system's unit does not set likewise."""
    assert set(settings("user/syncd.service")) - set(settings("syncd.service")) == {"WantedBy=default.target"}


def test_wheel_brings_the_units(tmp_path: Path) -> None:
    """What pip installs contains the very files of systemd/, so that install-service finds them."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("syncd", "systemd"):
        shutil.copytree(
            PROJECT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, source)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("syncd-*.whl")
    with zipfile.ZipFile(wheel) as content:
        for name in (*SYSTEM, "user/syncd.service", "sysusers.conf"):
            assert content.read(f"syncd/unit-files/{name}") == (UNITS / name).read_bytes()
        assert [name for name in content.namelist() if "debian" in name] == []

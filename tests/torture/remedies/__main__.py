"""Takes every remedy away in turn, in a copy of the project, and runs the tests that must notice.

    python -m tests.torture.remedies [HAZARD ...]

Exits with 1 if any remedy's tests pass without it, or cannot be run. Takes a few seconds each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.remedies.catalogue import HAZARDS, REMEDIES
from tests.torture.remedies.kinds import Remedy

PROJECT = Path(__file__).resolve().parents[3]
_FAILED = 1  # what pytest exits with when tests failed, and only then
_SECONDS = 300


def copy_project(target: Path) -> None:
    """All files that the project consists of, as they are in the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        source, copy = PROJECT / name, target / name
        if source.is_symlink() or source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def notices(remedy: Remedy, copy: Path) -> tuple[bool, str]:
    """Whether a test fails without the remedy, and what pytest said last."""
    kept = {edit.file: (copy / edit.file).read_text(encoding="utf-8") for edit in remedy.edits}
    try:
        for edit in remedy.edits:
            path = copy / edit.file
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider"]
        environ = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, *remedy.tests],
            cwd=copy, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True, f"no end within {_SECONDS} s"
    finally:
        for name, text in kept.items():
            (copy / name).write_text(text, encoding="utf-8")
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    return done.returncode == _FAILED, f"exit {done.returncode}: {lines[-1]}"


def main() -> int:
    """Print a line a remedy; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hazards", nargs="*", metavar="HAZARD", help="only these (default: all)")
    wanted = set(parser.parse_args().hazards)
    if wanted - HAZARDS.keys():
        parser.error(f"no such hazard: {', '.join(sorted(wanted - HAZARDS.keys()))}")
    chosen = [remedy for remedy in REMEDIES if not wanted or remedy.hazard in wanted]
    unproven = 0
    with tempfile.TemporaryDirectory(prefix="syncd-remedies-") as directory:
        copy = Path(directory)
        copy_project(copy)
        for remedy in chosen:
            began = time.monotonic()
            noticed, last = notices(remedy, copy)
            unproven += not noticed
            word = "noticed" if noticed else "NOT NOTICED"
            print(
                f"{remedy.hazard:4} {word}: {remedy.says} ({last}; {time.monotonic() - began:.0f} s)",
                flush=True,
            )
    print(f"{len(chosen) - unproven} remedies proven, {unproven} not")
    return 1 if unproven else 0


if __name__ == "__main__":
    sys.exit(main())

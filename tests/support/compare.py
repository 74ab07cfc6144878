"""Compares a folder with what a store holds, and not through syncd: by a shelf, or by rclone."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syncd.core.paths import key_for
from tests.support.servers import S3Server, find_program
from tests.support.shelves import Shelf


def keys_of(folder: Path, prefix: str) -> dict[str, bytes]:
    """The key that each regular file below `folder` should have, and its path."""
    top = os.fsencode(folder)
    found = {}
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found[key_for(prefix, os.fsdecode(os.path.relpath(path, top)))] = path
    return found


def differences(folder: Path, shelf: Shelf, prefix: str) -> list[str]:
    """The keys of files whose objects are absent or have other bytes: every byte of both is read."""

    def differs(item: tuple[str, bytes]) -> str | None:
        key, path = item
        body = shelf.fetch(key)
        if body is None:
            return f"absent: {key!r}"
        with open(path, "rb") as file:
            return None if file.read() == body else f"other bytes: {key!r}"

    with ThreadPoolExecutor(4) as threads:
        return [what for what in threads.map(differs, keys_of(folder, prefix).items()) if what is not None]


def differences_in_keys(folder: Path, shelf: Shelf, prefix: str) -> list[str]:
    """Keys that only the folder or only the shelf has."""
    there = {key for key in shelf.versions() if key.startswith(prefix)}
    want = keys_of(folder, prefix).keys()
    return [f"absent: {key!r}" for key in want - there] + [f"too much: {key!r}" for key in there - want]


def differences_by_rclone(
    folder: Path, server: S3Server, bucket: str, prefix: str, *options: str
) -> list[str]:
    """What ``rclone check --download`` says: all bytes of both sides are compared."""
    remote = (
        f":s3,provider=Ceph,endpoint='{server.endpoint}',region={server.region},force_path_style=true,"
        f"access_key_id='{server.access_key_id}',secret_access_key='{server.secret_access_key}'"
        f":{bucket}/{prefix}"
    )
    done = subprocess.run(
        [
            find_program("rclone") or "rclone", "check", str(folder), remote, "--download", "--combined", "-",
            "--config", os.devnull, "--checkers", "8", "--log-level", "ERROR", *options,
        ],
        capture_output=True, text=True, timeout=600, check=False,
        env={
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith(("_proxy", "_ca_bundle"))
        },
    )  # fmt: skip
    lines = done.stdout.splitlines()
    if done.returncode not in (0, 1) or not lines:
        raise AssertionError(f"rclone failed with {done.returncode}: {done.stderr[-3000:]}")
    found = [line for line in lines if not line.startswith("= ")]
    return found + ([] if done.returncode == 0 or found else [done.stderr[-3000:]])

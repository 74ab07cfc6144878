"""The program as a process: under any locale, and as a module."""

from __future__ import annotations

import json
import os
from contextlib import closing

import pytest

from syncd.core.model import FileRef
from syncd.state.state import State
from tests.unit.cli.home import Home


def test_the_module_runs(home: Home) -> None:
    """``python -m syncd`` is the same program."""
    process = home.start("status", "--json")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output)["daemon"]["running"] is False


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Überblick €.txt".encode(), "Überblick €.txt"),
        (b"\xdcberblick", "\u201bDCberblick"),
        (b"plain", "plain"),
    ],
)
def test_the_locale_has_no_say_in_names(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: bytes, key: str
) -> None:
    """A name has the same key in a service under C.UTF-8 and in a shell under any other locale."""
    for variable, value in {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(variable, value)
    with open(os.path.join(os.fsencode(home.watched), name), "wb") as file:
        file.write(b"x")
    process = home.start("sync")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert home.stored() == {key}
    with closing(State.open_read_only(str(home.root / "state"))) as state:
        recorded = state.recorded(FileRef("docs", os.fsdecode(name)))
    assert recorded is not None
    assert recorded.key == key  # for any kind of store

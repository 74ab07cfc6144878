"""Where the configuration file is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import places
from syncd.core.errors import ConfigError


def test_the_file_is_found_in_its_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, $SYNCD_CONFIG, the user's directory, the machine's: the first that there is."""
    machine, user = tmp_path / "machine.yaml", tmp_path / "xdg" / "syncd" / "config.yaml"
    monkeypatch.setattr(places, "SYSTEM_FILE", str(machine))
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    with pytest.raises(ConfigError) as caught:
        places.find(None, environ)
    expected = (
        f"configuration: found no file at {user} or {machine}, and $SYNCD_CONFIG is not set; "
        "expected one of these files, or another with `-c FILE`"
    )
    assert [expected] == [str(each) for each in caught.value.problems]
    machine.touch()
    assert str(machine) == places.find(None, environ)
    user.parent.mkdir(parents=True)
    user.touch()
    assert str(user) == places.find(None, environ)
    assert places.find(None, {**environ, "SYNCD_CONFIG": "/some/where"}) == "/some/where"
    assert places.find("mine", {**environ, "SYNCD_CONFIG": "/some/where"}) == "mine"
    assert str(machine) == places.find(None, {"HOME": str(tmp_path)})

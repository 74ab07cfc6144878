"""Every verb, asked on the command line of a running daemon. One daemon serves all tests of this file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Syncd, wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def syncd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Syncd]:
    """Two sources, one of which has the name of the store; a limit that makes a film take a while."""
    root = tmp_path_factory.mktemp("verbs")
    for name in ("watched", "mirror", "second"):
        (root / name).mkdir()
    docs = {"name": "docs", "path": "./watched", "store": "mirror", "prefix": "docs/", "settle": "200ms"}
    docs |= {"exclude": ["*.tmp", "private/"]}
    namesake = {"name": "mirror", "path": "./second", "store": "mirror", "prefix": "two/", "settle": "1h"}
    instance = Syncd(
        root,
        {"mirror": {"type": "dir", "path": "./mirror"}},
        [docs, namesake],
        transfer={"part_size": "1MiB", "concurrency": 2, "bandwidth_limit": "4MiB"},
    )
    instance.start()
    yield instance
    instance.close()


def word(syncd: Syncd, path: str, folder: str = "watched") -> str:
    """The word of a file, as a script takes it: the first of the line."""
    return syncd.command("status", str(syncd.root / folder / path)).stdout.split(" ", 1)[0]


def arrives(syncd: Syncd, name: str) -> None:
    wait_until(f"{name} is there", lambda: (syncd.root / "mirror" / name).exists())


def test_a_file_has_its_word_from_the_disk_to_the_store(syncd: Syncd) -> None:
    """The running daemon says it, also of what is excluded or missing."""
    watched = syncd.root / "watched"
    (watched / "a").write_text("x")
    (watched / "b.TMP").write_text("x")
    (watched / "c.tmp").write_text("x")
    arrives(syncd, "docs/a")
    wait_until("it is recorded", lambda: word(syncd, "a") == "stored")
    assert [word(syncd, name) for name in ("c.tmp", "private/x", "nothing")] == [
        "excluded",
        "excluded",
        "unknown",
    ]
    (syncd.root / "second" / "slow").write_text("x")
    wait_until("it settles", lambda: word(syncd, "slow", "second") == "settling")
    told = syncd.command("explain", str(watched / "b.TMP")).stdout
    assert "rule       taken: no pattern of `exclude` matches (`*.tmp` differs only in case)" in told
    left_out = json.loads(syncd.command("explain", str(watched / "private/x"), "--json").stdout)
    assert left_out["rule"]["pattern"] == "private/"
    assert left_out["rule"]["where"].startswith(f"{syncd.config}:")


def test_a_pause_stops_a_film_in_the_middle_and_survives_a_restart(syncd: Syncd) -> None:
    """What had arrived stays; `resume` sends the rest. A name that is two things has to be said outright."""
    film = syncd.root / "watched" / "film"
    film.write_bytes(bytes(range(256)) * (8 * MIB // 256))
    wait_until("it is under way", lambda: word(syncd, "film") == "uploading")
    assert syncd.command("pause", "docs").stdout == "source docs: paused until `syncd resume`\n"
    both = syncd.command("pause", "mirror", check=False)
    assert both.returncode == 2
    assert "say source:mirror or store:mirror" in both.stderr
    wait_until("it waits", lambda: word(syncd, "film") == "pending")
    before = status_of(syncd, film)
    assert "paused by the operator" in before["reason"]
    assert syncd.stop() == 0
    syncd.start()
    wait_until("it waits again", lambda: "paused by the operator" in status_of(syncd, film)["reason"])
    assert "docs: paused by the operator" in syncd.command("status").stdout
    assert syncd.command("resume", "docs").stdout == "source docs: resumed\n"
    wait_until("it is stored", lambda: word(syncd, "film") == "stored")
    assert (syncd.root / "mirror/docs/film").read_bytes() == film.read_bytes()


def status_of(syncd: Syncd, path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(syncd.command("status", "--json", str(path)).stdout)
    return told

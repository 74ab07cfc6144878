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
    (root / "run").mkdir(mode=0o700)
    instance.environ["XDG_RUNTIME_DIR"] = str(root / "run")
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
    assert "rule       included: no pattern of `exclude` matches (`*.tmp` differs only in case)" in told
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
    assert syncd.stop() == 3
    syncd.start()
    wait_until("it waits again", lambda: "paused by the operator" in status_of(syncd, film)["reason"])
    assert "docs: paused by the operator" in syncd.command("status").stdout
    assert syncd.command("resume", "docs").stdout == "source docs: resumed\n"
    wait_until("it is stored", lambda: word(syncd, "film") == "stored")
    assert (syncd.root / "mirror/docs/film").read_bytes() == film.read_bytes()


def test_flush_and_sync_do_not_wait_until_a_file_is_quiet(syncd: Syncd) -> None:
    """With a settle period of an hour; `sync` also finds what no event announced. Time and pauses end it."""
    second = syncd.root / "second"
    (second / "now").write_text("now")
    wait_until("it settles", lambda: word(syncd, "now", "second") == "settling")
    told = syncd.command("flush", "source:mirror", "--timeout", "60s").stdout
    assert "uploaded" in told
    assert "0 failed; 0 left" in told
    assert word(syncd, "now", "second") == "stored"
    (second / "later").write_text("later")
    told = syncd.command("sync").stdout
    assert "1 uploaded" in told
    assert word(syncd, "later", "second") == "stored"

    syncd.command("pause", "--for", "1h")
    (second / "held").write_text("held")
    wait_until("it is noticed", lambda: word(syncd, "held", "second") in ("settling", "pending"))
    for command in (("flush", "--timeout", "1ms"), ("sync",)):
        late = syncd.command(*command, check=False)
        assert late.returncode == 4
        assert "1 left" in late.stdout
    assert "paused by the operator" in late.stderr
    syncd.command("resume")
    syncd.command("sync")
    assert word(syncd, "held", "second") == "stored"


def test_what_failed_is_tried_again_when_the_operator_says_so(syncd: Syncd) -> None:
    """Without its back-off; until then `flush` ends with 3. `rescan` takes a name or a path."""
    (syncd.root / "mirror").rename(syncd.root / "away")
    (syncd.root / "watched" / "new").write_text("x")
    wait_until("it fails", lambda: word(syncd, "new") == "failed")
    done = syncd.command("flush", "docs", "--timeout", "1s", check=False)
    assert done.returncode in (3, 4)
    assert "1 failed" in done.stdout
    (syncd.root / "away").rename(syncd.root / "mirror")
    assert "tried again" in syncd.command("retry", f"{syncd.root}/watched/").stdout
    wait_until("it is stored", lambda: word(syncd, "new") == "stored")
    assert syncd.command("rescan", "docs").stdout == "the daemon scans docs\n"
    assert syncd.command("rescan", str(syncd.root / "second/d")).stdout == "the daemon scans mirror: d\n"
    assert syncd.command("rescan", "/etc/", check=False).returncode == 2


def test_the_limit_is_shown_and_changed_while_it_runs(syncd: Syncd) -> None:
    """For a while or until the end; 0 is refused with the words that are meant."""
    assert syncd.command("limit").stdout == "4.0 MiB/s, by the configuration\n"
    told = syncd.command("limit", "1MiB", "--for", "1h").stdout
    assert told.startswith("1.0 MiB/s, by the operator, for ")
    assert syncd.command("limit", "off").stdout == "no limit, by the operator\n"
    refused = syncd.command("limit", "0", check=False)
    assert refused.returncode == 2
    assert "`off` means no limit" in refused.stderr
    assert syncd.command("limit", "config").stdout == "4.0 MiB/s, by the configuration\n"


def test_reload_says_what_changed_or_every_mistake(syncd: Syncd) -> None:
    """A mistake leaves the old configuration in use, and the exit code says so."""
    good = dict(syncd.content)
    assert syncd.command("reload").stdout == "nothing changed\n"
    syncd.write({**good, "sources": [{**good["sources"][0], "settle": "300ms"}], "log": {"level": "debug"}})
    assert syncd.command("reload").stdout.splitlines() == [
        "source mirror: removed",
        "source docs: changed: settle",
        "log: level",
    ]
    right = syncd.config.read_text()
    syncd.config.write_text(right.replace("settle", "setle").replace("exclude", "exlude"))
    wrong = syncd.command("reload", check=False)
    syncd.config.write_text(right)
    assert wrong.returncode == 78
    assert "setle" in wrong.stderr
    assert "exlude" in wrong.stderr
    assert "the old configuration stays in force" in wrong.stderr
    syncd.write(good)
    assert syncd.command("reload").returncode == 0


def test_what_waits_what_was_done_and_whether_it_works(syncd: Syncd) -> None:
    """Lists for people; a word and exit codes for probes and scripts."""
    syncd.command("sync")
    assert syncd.command("health", "--ready").stdout == "ok\n"
    assert syncd.command("status", "--exit-code").returncode == 0
    (syncd.root / "second" / "waits").write_text("waits")
    wait_until("it is noticed", lambda: "mirror:waits" in syncd.command("pending").stdout)
    assert syncd.command("status", "--exit-code", check=False).returncode == 4
    told = syncd.command("history", str(syncd.root / "watched/film")).stdout
    assert "uploaded docs:film: " in told
    running = syncd.command("status").stdout
    assert f"daemon: running, pid {syncd.process and syncd.process.pid}" in running
    assert str(syncd.config) in running
    assert syncd.stop() == 3
    assert syncd.command("health", check=False).returncode == 69
    assert syncd.command("status", "--exit-code", check=False).returncode == 69
    assert f"daemon: not running (state: {syncd.root / 'state'})" in syncd.command("status").stdout
    assert word(syncd, "waits", "second") == "pending"
    syncd.start()


def test_a_stop_in_the_middle_of_work_leaves_nothing_behind_or_says_so(syncd: Syncd) -> None:
    """With `stop: drain`: a film under way, a file that settles; exit code 3 if the time is too short, and
    with `stop: now`.
    """
    good = dict(syncd.content)
    try:
        syncd.write({**good, "stop": "drain", "stop_timeout": "60s"})
        assert "stop\nstop_timeout\n" in syncd.command("reload").stdout
        last = syncd.root / "watched" / "last"
        last.write_bytes(bytes(range(255)) * (4 * MIB // 255))
        (syncd.root / "second" / "late").write_text("late")
        wait_until("both are known", lambda: len(syncd.command("pending").stdout.splitlines()) >= 2)
        assert syncd.stop() == 0
        assert (syncd.root / "mirror/docs/last").read_bytes() == last.read_bytes()
        assert (syncd.root / "mirror/two/late").read_text() == "late"

        syncd.write({**good, "stop": "drain", "stop_timeout": "1s"})
        syncd.start()
        last.write_bytes(bytes(range(254)) * (40 * MIB // 254))
        wait_until("it is under way", lambda: word(syncd, "last") == "uploading")
        assert syncd.stop() == 3
        syncd.write(good)
        syncd.start()
        wait_until("it goes on", lambda: word(syncd, "last") == "uploading")
        assert syncd.stop() == 3
    finally:
        syncd.write(good)
        syncd.start()


def status_of(syncd: Syncd, path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(syncd.command("status", "--json", str(path)).stdout)
    return told

"""The daemon as a process, on a directory store: what people do in a folder arrives, byte for byte."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import SYNCD, Syncd, wait_until
from tests.e2e.workloads import WORKLOADS, do, pip_install, tree

SETTLE = "200ms"


@pytest.fixture
def syncd(tmp_path: Path) -> Iterator[Syncd]:
    (tmp_path / "watched").mkdir()
    (tmp_path / "mirror").mkdir()
    source: dict[str, Any] = {"name": "docs", "path": "./watched", "store": "mirror", "settle": SETTLE}
    instance = Syncd(
        tmp_path,
        {"mirror": {"type": "dir", "path": "./mirror"}},
        [source],
        transfer={"part_size": "1MiB", "concurrency": 4},
    )
    yield instance
    instance.close()


def arrives(syncd: Syncd, expected: dict[bytes, bytes] | None = None) -> None:
    """Everything that is in the folder gets into the store (what is deleted is kept there)."""

    def there() -> bool:
        want = tree(syncd.root / "watched") if expected is None else expected
        have = tree(syncd.root / "mirror")
        return all(have.get(name) == content for name, content in want.items())

    try:
        wait_until("every file is in the store", there)
    except AssertionError as error:
        want, have = tree(syncd.root / "watched"), tree(syncd.root / "mirror")
        wrong = [name for name, content in want.items() if have.get(name) != content]
        raise AssertionError(f"{error}: {wrong[:20]}\n{syncd.status()}\n{syncd.log_text()}") from None


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda name: name.replace(" ", "-"))
def test_what_people_do_in_a_folder_arrives(syncd: Syncd, workload: str) -> None:
    """After each of the things that people do, the store has what the folder has."""
    (syncd.root / "outside").mkdir()
    syncd.start()

    do(syncd.root / "watched", syncd.root / "outside", WORKLOADS[workload])

    assert tree(syncd.root / "watched")
    arrives(syncd)
    syncd.wait_idle()
    assert syncd.stop() == 0


def test_pip_install_into_the_folder_arrives(syncd: Syncd) -> None:
    """An installer that unpacks, compiles and renames in a hurry."""
    syncd.start()
    pip_install(syncd.root / "watched" / "site", syncd.root)
    arrives(syncd)


def test_odd_names_arrive_under_their_own_names(syncd: Syncd) -> None:
    """Spaces, plus, percent, hash, question mark, quotes, newline, not ASCII, not UTF-8."""
    names = [b"a b", b"a+b", b"100%", b"#1", b"what?", b"a&b", b"it's", b'"q"', b"new\nline",
             "ü漢字🙂".encode(),
             b"\xff\xfe", b"tab\there", b"back\\slash", b"-rf", b"~", b"..a", b"a:b", b"*"]  # fmt: skip
    syncd.start()
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(syncd.root / "watched"), name), "wb") as file:
            file.write(b"%d" % number)
    syncd.wait_idle()
    wait_until("all are recorded", lambda: syncd.status()["sources"][0]["files"]["recorded"] == len(names))
    contents = sorted(tree(syncd.root / "mirror").values())
    assert contents == sorted(b"%d" % number for number in range(len(names)))
    utf8 = {name for name in names if name != b"\xff\xfe"}
    assert {b"docs/" + name for name in utf8} <= tree(syncd.root / "mirror").keys() or utf8 <= tree(
        syncd.root / "mirror"
    ).keys()


def test_links_and_special_files_are_skipped_and_counted(syncd: Syncd) -> None:
    """A FIFO and a symbolic link do not hang anything, and status says that they were skipped."""
    folder = syncd.root / "watched"
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "file").write_text("x")
    syncd.start()
    arrives(syncd)
    skipped = syncd.wait_idle()["sources"][0]["skipped"]
    assert sum(skipped.values()) == 2


def test_work_while_the_daemon_starts_and_stops_is_not_lost(syncd: Syncd) -> None:
    """A writer that never pauses through several starts: in the end everything is there."""
    script = "i=0; while [ ! -e ../enough ]; do i=$((i+1)); mkdir -p d$((i%7)); echo $i > d$((i%7))/f$i; done"
    writer = subprocess.Popen(["bash", "-euc", script], cwd=syncd.root / "watched")
    try:
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            syncd.start()
            if number == signal.SIGKILL:
                syncd.kill()
            else:
                # 0 where a busy machine held up the writer for so long that all was sent
                assert syncd.stop(number) in (0, 3)
    finally:
        (syncd.root / "enough").touch()
        writer.wait(60)
    syncd.start()
    arrives(syncd)


def test_a_second_instance_is_refused_with_the_pid_of_the_first(syncd: Syncd) -> None:
    """Two daemons on one state directory would fight; the second says who is there."""
    syncd.start()
    assert syncd.process is not None
    second = syncd.command("run", check=False)
    assert second.returncode == 1
    assert str(syncd.process.pid) in second.stderr


def test_a_wrong_configuration_starts_nothing(syncd: Syncd) -> None:
    """Exit code 78, every mistake at once, and no state directory is made."""
    syncd.write({**syncd.content, "sources": [{"name": "docs", "pth": "x", "store": "miror"}]})
    done = syncd.command("run", check=False)
    assert done.returncode == 78
    assert "pth" in done.stderr
    assert "miror" in done.stderr
    assert not (syncd.root / "state").exists()


def test_a_reload_that_is_asked_for_during_the_start_ends_nothing(syncd: Syncd) -> None:
    """From the first moment that the process can be told: its parent may not know when it is ready."""
    (syncd.root / "watched" / "a").write_text("x")
    syncd.start(wait=False)
    process = syncd.process
    assert process is not None
    wait_until("it handles or blocks the signal", lambda: _heeds_hangups(process.pid))
    for _ in range(20):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    arrives(syncd)
    assert process.poll() is None


def _heeds_hangups(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    return bool((int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) & 1 << (signal.SIGHUP - 1))


def test_reload_takes_a_new_source_and_survives_a_bad_file(syncd: Syncd) -> None:
    """SIGHUP with a mistake leaves the old configuration running; with a good file the new source works."""
    syncd.start()
    assert syncd.process is not None
    good = dict(syncd.content)
    syncd.config.write_text("stores: [")
    syncd.process.send_signal(signal.SIGHUP)
    wait_until("the mistake is logged", lambda: "old configuration" in syncd.log_text())
    (syncd.root / "watched" / "a").write_text("still here")
    (syncd.root / "second").mkdir()
    second = {"name": "second", "path": "./second", "store": "mirror", "prefix": "two/", "settle": SETTLE}
    syncd.write({**good, "sources": [{**good["sources"][0], "prefix": "one/"}, second]})
    syncd.process.send_signal(signal.SIGHUP)
    wait_until("the second source is known", lambda: len(syncd.status()["sources"]) == 2)
    (syncd.root / "second" / "b").write_text("new")
    wait_until(
        "both arrive",
        lambda: (syncd.root / "mirror/two/b").exists() and (syncd.root / "mirror/one/a").exists(),
    )


def test_a_root_that_goes_away_deletes_nothing_and_is_waited_for(syncd: Syncd) -> None:
    """Moved away, absent, replaced by an empty one, moved back: the store keeps everything throughout."""
    good = dict(syncd.content)
    syncd.write({**good, "sources": [{**good["sources"][0], "on_delete": "delete"}]})
    folder = syncd.root / "watched"
    for number in range(20):
        (folder / f"f{number}").write_text(str(number))
    syncd.start()
    arrives(syncd)
    before = tree(syncd.root / "mirror")
    folder.rename(syncd.root / "away")
    wait_until("it says what it waits for", lambda: bool(syncd.status()["sources"][0]["waiting_for"]))
    folder.mkdir()
    wait_until("an empty one is not believed", lambda: bool(syncd.status()["sources"][0]["waiting_for"]))
    assert tree(syncd.root / "mirror") == before
    folder.rmdir()
    (syncd.root / "away").rename(folder)
    wait_until("it is back", lambda: not syncd.status()["sources"][0]["waiting_for"])
    (folder / "later").write_text("x")
    arrives(syncd)
    assert before.items() <= tree(syncd.root / "mirror").items()


def test_deletes_are_propagated_when_asked_but_not_too_many(syncd: Syncd) -> None:
    """A few deletions go through; most of the folder waits for the operator's word."""
    good = dict(syncd.content)
    syncd.write({**good, "sources": [{**good["sources"][0], "on_delete": "delete"}]})
    folder = syncd.root / "watched"
    for number in range(60):
        (folder / f"f{number}").write_text(str(number))
    syncd.start()
    arrives(syncd)
    syncd.wait_idle()
    (folder / "f0").unlink()
    (folder / "f1").unlink()
    wait_until("two are gone", lambda: len(tree(syncd.root / "mirror")) == 58)
    for number in range(2, 50):
        (folder / f"f{number}").unlink()
    wait_until("the rest waits", lambda: syncd.status()["sources"][0]["deletes_parked"] > 0)
    assert len(tree(syncd.root / "mirror")) == 58
    syncd.command("sync", "--allow-deletes", "docs")
    wait_until("with the operator's word they go", lambda: len(tree(syncd.root / "mirror")) == 10)
    assert tree(folder) == {name.split(b"/")[-1]: data for name, data in tree(syncd.root / "mirror").items()}


def test_stop_in_the_middle_of_an_upload_is_quick_and_the_next_start_resumes(syncd: Syncd) -> None:
    """SIGTERM mid-part: exit 3 within seconds, and parts that were there are not sent again."""
    content = dict(syncd.content)
    syncd.write({**content, "transfer": {"part_size": "1MiB", "concurrency": 2, "bandwidth_limit": "4MiB"}})
    (syncd.root / "watched" / "big").write_bytes(os.urandom(1 << 20) * 24)
    syncd.start()
    # Two parts of 1 MiB are on the way at once: beyond 2 MiB, one has arrived.
    wait_until("it moves", lambda: any(item["bytes_done"] > 2 << 20 for item in syncd.status()["in_flight"]))
    assert syncd.stop() == 3
    resumed_from = syncd.status()["in_flight"][0]["bytes_done"]
    assert resumed_from > 0
    syncd.write(content)
    syncd.start()
    arrives(syncd)
    totals = syncd.wait_idle()["totals"]
    assert totals["bytes_saved"] >= resumed_from


def test_sync_prints_what_it_did_and_the_second_one_does_nothing(syncd: Syncd) -> None:
    """One pass: a summary for a person, exit code 0, and nothing to do the second time."""
    (syncd.root / "watched" / "a").write_text("x")
    assert "upload" in syncd.command("sync", "--dry-run").stdout
    assert tree(syncd.root / "mirror") == {}
    assert "1 uploaded" in syncd.command("sync").stdout
    again = syncd.command("sync").stdout  # a file this young is looked at once more
    assert "uploaded" not in again
    assert "; 0 bytes sent" in again
    assert syncd.command("verify").returncode == 0


def test_one_bad_file_does_not_stop_the_others(syncd: Syncd) -> None:
    """A file that cannot be carried is reported, exit code 3, and the rest arrives."""
    folder = syncd.root / "watched"
    for number in range(20):
        (folder / f"f{number}").write_text(str(number))
    (folder / "sub").mkdir()
    (folder / "sub" / "bad").write_text("cannot go there")
    (syncd.root / "mirror" / "sub").symlink_to("/nowhere")
    done = syncd.command("sync", check=False)
    assert done.returncode == 3, done.stderr
    assert "sub/bad" in done.stderr
    assert len(tree(syncd.root / "mirror")) == 20


def test_status_answers_beside_and_without_a_daemon(syncd: Syncd) -> None:
    """The keys of the interface are there either way."""
    (syncd.root / "watched" / "a").write_text("x")
    for running in (False, True):
        if running:
            syncd.start()
            syncd.wait_idle()
        report = syncd.status()
        assert report["daemon"]["running"] is running
        source = report["sources"][0]
        assert {"name", "path", "store", "files", "bytes", "last_scan", "drift"} <= source.keys()
        assert {"recorded", "pending", "in_flight", "failed"} == source["files"].keys()
        assert {"bytes_sent", "bytes_saved", "requests"} <= report["totals"].keys()
    shown = subprocess.run(
        [*SYNCD, "status", "-c", str(syncd.config)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "running" in shown
    assert "docs" in shown


def test_the_store_directory_may_vanish_and_come_back(syncd: Syncd) -> None:
    """A NAS that is not mounted pauses the store; nothing is written to the empty mount point."""
    syncd.start()
    (syncd.root / "watched" / "a").write_text("x")
    arrives(syncd)
    (syncd.root / "mirror").rename(syncd.root / "unplugged")
    (syncd.root / "watched" / "b").write_text("y")
    wait_until("the failure is told", lambda: bool(syncd.status()["failures"]))
    assert not (syncd.root / "mirror").exists()
    (syncd.root / "unplugged").rename(syncd.root / "mirror")
    arrives(syncd)


def test_an_empty_mount_point_is_not_taken_for_the_store(syncd: Syncd) -> None:
    """The disk is not mounted at the next start: nothing is written, and all is well when it is back."""
    (syncd.root / "watched" / "a").write_text("x")
    syncd.command("sync")
    (syncd.root / "mirror").rename(syncd.root / "unplugged")
    (syncd.root / "mirror").mkdir()
    (syncd.root / "watched" / "b").write_text("y")
    refused = syncd.command("sync", check=False)
    assert refused.returncode in (3, 69)  # the other file may have been looked at once more, and was right
    assert "not mounted" in refused.stderr
    assert list((syncd.root / "mirror").iterdir()) == []
    (syncd.root / "mirror").rmdir()
    (syncd.root / "unplugged").rename(syncd.root / "mirror")
    syncd.command("sync")
    assert tree(syncd.root / "mirror") == {b"a": b"x", b"b": b"y"}


def test_cleaning_up(syncd: Syncd) -> None:
    """After a clean stop no socket is left."""
    syncd.start()
    syncd.wait_idle()  # before its first scan is over it would say, by exit code 3, that it does not know all
    assert syncd.stop() == 0
    assert not (syncd.root / "state" / "control.sock").exists()
    shutil.rmtree(syncd.root / "state")

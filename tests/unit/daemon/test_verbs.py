"""What the command line may ask of a running daemon."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from syncd.core.backoff import Rate
from syncd.core.model import Failure, FileRef, ObjectMeta
from syncd.daemon.verbs import QUESTIONS, VERBS, Verbs
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import CONDITIONS, DIGESTS, DOUBLED, HONOURED, VERSION_KEYS
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home


def test_the_operators_words_arrive(home: Home) -> None:
    """Deletions that wait go, an accepted root is taken; for an unknown source it is said so."""
    home.content["sources"][0] |= {"on_delete": "delete", "max_delete": 0}
    (home.root / "watched" / "a").write_text("x")
    (home.root / "watched" / "b").write_text("y")
    made = home.start()
    home.arrives("a")
    home.arrives("b")
    (home.root / "watched" / "a").unlink()
    runner = made._pipeline.source_runners["docs"]
    wait_until("it waits", lambda: runner.news.deletes_parked == 1)
    assert home.ask(command="allow-deletes", source="docs") == {"allowed": 1}
    wait_until("it is gone", lambda: not (home.root / "mirror" / "a").exists())
    (home.root / "watched").rename(home.root / "old")
    (home.root / "watched").mkdir()
    (home.root / "watched" / "c").write_text("z")
    wait_until("it waits", lambda: "--accept-root docs" in runner.news.waiting_for)
    assert "--accept-root docs" in home.ask(command="status")["sources"][0]["waiting_for"]
    assert home.ask(command="accept-root", source="docs") == {"accepted": True}
    home.arrives("c")
    for command in ("allow-deletes", "accept-root", "take-over", "restamp", "adopt"):
        assert "knows no such source" in home.ask(command=command, source="dosc")["error"]
    learn = {"command": "learn", "store": "mirror", "name": DIGESTS}
    assert home.ask(**learn, found="etag") == {"learned": True}
    store_id = made._pipeline.store_runners["mirror"].store.store_id
    assert made._pipeline.state.learned(store_id, DIGESTS) == "etag"
    for odd in (
        {"found": "nonsense"},
        {"name": VERSION_KEYS, "found": "x"},
        {"name": CONDITIONS, "found": ""},
        {"name": "instance", "found": ""},
    ):
        assert "error" in home.ask(**(learn | odd))
    assert "knows no such store" in home.ask(**(learn | {"store": "other"}), found="etag")["error"]
    assert home.ask(**(learn | {"name": VERSION_KEYS}), found=DOUBLED) == {"learned": True}
    assert home.ask(**(learn | {"name": CONDITIONS}), found=HONOURED) == {"learned": True}
    assert home.ask(command="restamp", source="docs")["objects"] == 2
    assert home.ask(command="adopt", source="docs")["files"]["recorded"] == 1
    assert "unknown command" in home.ask(command="nonsense")["error"]


def test_a_pause_holds_what_it_names_and_survives_a_restart(home: Home) -> None:
    """Changes are noticed and wait; the status says why; without a name everything is meant."""
    home.content["sources"] = [
        home.source("docs", "watched", prefix="docs/"),
        home.source("more", "more", prefix="more/"),
    ]
    (home.root / "more").mkdir()
    home.start()
    paused = home.ask(command="pause", name="docs")
    assert paused == {"kind": "source", "name": "docs", "until": None, "was": False}
    assert home.ask(command="pause", name="docs")["was"]
    (home.root / "watched" / "a").write_text("x")
    (home.root / "more" / "b").write_text("x")
    home.arrives("more/b")

    def waits() -> bool:
        return bool(home.ask(command="file", path=str(home.root / "watched/a"))["state"] == "pending")

    wait_until("it waits", waits)
    assert home.stop() == 3
    home.start()

    def says_why() -> bool:
        told = home.ask(command="file", path=str(home.root / "watched/a"))["reason"]
        listed = home.ask(command="pending", limit=5)["files"]
        why = "the source is paused by the operator, until it is resumed"
        return told == f"new; {why}" and why in [each["reason"] for each in listed]

    wait_until("it waits again, once it has been quiet, for the operator", says_why)
    status = home.ask(command="status")
    assert [source["paused"] for source in status["sources"]] == [
        "by the operator, until it is resumed",
        None,
    ]
    assert not (home.root / "mirror" / "docs/a").exists()
    assert home.ask(command="resume", name="docs")["was"]
    home.arrives("docs/a")
    assert not home.ask(command="resume", name="docs")["was"]

    assert home.ask(command="pause", seconds=3600.0)["until"] is not None
    assert "by the operator, until 2" in home.ask(command="status")["daemon"]["stores_paused"]["mirror"]
    home.ask(command="pause", name="store:mirror")
    assert home.ask(command="resume", name="mirror")["left"] == ["all"]
    assert home.ask(command="resume") == {"kind": "all", "name": "", "was": True, "left": []}
    assert home.ask(command="status")["daemon"]["stores_paused"] == {}
    assert home.ask(command="pause", name="dosc")["usage"]
    assert "positive" in home.ask(command="pause", seconds=-1)["error"]


def test_the_pause_of_a_removed_source_goes_with_it_and_that_of_a_store_can_be_ended(home: Home) -> None:
    home.content["sources"] = [
        home.source("docs", "watched"),
        home.source("more", "more") | {"store": "other"},
    ]
    home.content["stores"]["other"] = {"type": "dir", "path": "./other"}
    for name in ("more", "other"):
        (home.root / name).mkdir()
    home.start()
    for name in ("more", "other"):
        assert not home.ask(command="pause", name=name)["was"]
    del home.content["sources"][1]
    del home.content["stores"]["other"]
    home.reload()
    assert home.ask(command="resume", name="more")["usage"]
    assert home.ask(command="resume", name="other")["was"]
    assert home.ask(command="resume")["left"] == []


def test_a_request_for_another_configuration_is_answered_so(home: Home) -> None:
    """The command then looks elsewhere; without a name any daemon is meant."""
    home.start()
    config = str(home.root / "config.yaml")
    assert home.ask(command="hello", config=config)["config"] == config
    assert home.ask(command="hello")["state_dir"] == str(home.root / "state")
    assert home.ask(command="status", config="/etc/syncd/other.yaml")["other"]


def test_a_limit_holds_until_its_end(home: Home) -> None:
    """Then what the configuration says; a reload of the stores keeps it."""
    home.content["transfer"]["bandwidth_limit"] = "4MiB"
    home.start()
    configured = {
        "bytes_per_second": 4 << 20,
        "paused": False,
        "until": None,
        "seconds_left": None,
        "by_operator": False,
    }
    assert home.ask(command="limit") == configured
    assert home.ask(command="limit", rate="100K")["bytes_per_second"] == 100 << 10
    home.content["transfer"]["concurrency"] = 3
    assert home.ask(command="reload") == {"changes": ["transfer: concurrency"]}
    assert home.ask(command="limit") == {
        **configured,
        "bytes_per_second": 100 << 10,
        "by_operator": True,
    }
    assert home.ask(command="limit", rate="100K", seconds=1e6)["seconds_left"] > 0
    home.content["transfer"]["bandwidth_limit"] = "8MiB"
    assert "syncd limit config" in home.ask(command="reload")["changes"][-1]
    assert home.ask(command="limit")["bytes_per_second"] == 100 << 10
    home.content["transfer"]["bandwidth_limit"] = "4MiB"
    home.reload()
    assert home.ask(command="limit", rate="100K", seconds=-1) == configured
    assert home.ask(command="limit", configured=True) == configured
    assert "a timetable" in home.ask(command="limit", rate="fast")["error"]


def test_a_reloaded_limit_replaces_no_store(home: Home) -> None:
    """It holds at once; requests under way go on."""
    made = home.start()
    before = made._pipeline.store_runners["mirror"]
    home.content["transfer"]["bandwidth_limit"] = "00:00,1M 12:00,2M"
    assert home.ask(command="reload") == {"changes": ["transfer: bandwidth_limit"]}
    answer = home.ask(command="limit")
    assert answer["bytes_per_second"] in (1 << 20, 2 << 20)
    assert answer["until"].endswith(("12:00", "00:00"))
    assert made._pipeline.store_runners["mirror"] is before


def test_a_pause_of_the_timetable_holds_and_ends(home: Home) -> None:
    """Nothing is begun, every place says why, and the operator's limit goes before it."""
    hour = (time.localtime().tm_hour + 12) % 24
    home.content["transfer"]["bandwidth_limit"] = f"{hour:02}:00,1M {hour:02}:01,pause"
    home.start()
    (home.root / "watched" / "a").write_text("x")

    def reason() -> str:
        return str(home.ask(command="file", path=str(home.root / "watched/a"))["reason"])

    wait_until("it waits", lambda: "paused: by `bandwidth_limit`, until" in reason())
    assert f"{hour:02}:00" in reason()
    assert home.ask(command="status")["daemon"]["stores_paused"].keys() == {"mirror"}
    kept = home.ask(command="flush", name="docs")["kept_back"]
    assert "paused by `bandwidth_limit`" in kept["docs"]
    told = home.ask(command="limit")
    assert (told["paused"], told["bytes_per_second"]) == (True, 1 << 20)
    assert not (home.root / "mirror" / "a").exists()
    assert not home.ask(command="limit", rate="off")["paused"]
    home.arrives("a")


def test_nobody_says_when_what_is_paused_will_be_sent(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it went before."""
    home.content["sources"][0]["settle"] = "1h"
    made = home.start()
    (home.root / "watched" / "a").write_text("x")
    wait_until("it is known", lambda: made._pipeline.pending())
    monkeypatch.setattr(Rate, "per_second", lambda self, now: 0.5)
    assert made._pipeline.outlook()[1] == 2.0
    home.ask(command="pause", name="docs")
    assert made._pipeline.outlook()[1] is None


def test_rescan_and_retry_take_names_and_paths(home: Home) -> None:
    """A source whose root is away is looked for at once, whatever its pauses are."""
    home.content["sources"][0]["path"] = "./later"
    made = home.start()
    runner = made._pipeline.source_runners["docs"]
    wait_until("it waits", lambda: runner.news.waiting_for)
    runner.schedule.next_scan = runner.clock.monotonic() + 3600
    (home.root / "later").mkdir()
    assert home.ask(command="rescan", name="docs") == {"sources": ["docs"], "below": ""}
    wait_until("it is back", lambda: not runner.news.waiting_for)
    below = home.ask(command="rescan", path=str(home.root / "later" / "d"))
    assert below == {"sources": ["docs"], "below": "d"}
    assert home.ask(command="retry", path=str(home.root / "later")) == {"sources": ["docs"], "files": 0}
    assert "in no source" in home.ask(command="retry", path="/etc")["error"]


def test_retry_takes_the_words_of_an_error(home: Home) -> None:
    """One cause was mended, and the others are left alone."""
    made = home.start()
    wait_until("it is scanned", made._pipeline.source_runners["docs"].first_scan_done.is_set)
    later_ns = time.time_ns() + 3600 * 10**9
    for name, error in (("a", "denied [request 1]"), ("b", "denied [request 2]"), ("c", "too long")):
        made._pipeline.state.failures.record(Failure(FileRef("docs", name), error, 3, later_ns))
    assert home.ask(command="retry", error="nothing of this kind")["files"] == 0
    assert home.ask(command="retry", error="denied", path=str(home.root / "watched" / "c"))["files"] == 0
    assert home.ask(command="retry", error="denied", name="docs")["files"] == 2
    wait_until("both are looked at", lambda: len(home.ask(command="status")["failures"]) == 1)
    assert home.ask(command="status")["failures"][0]["error"] == "too long"


def test_a_repair_sends_again_what_is_there_and_forgets_what_was_deleted(home: Home) -> None:
    """Of objects that are damaged; and the answer says how many are sent."""
    made = home.start()
    state, refs = made._pipeline.state, [FileRef("docs", "a"), FileRef("docs", "b")]
    for ref in refs:
        (home.root / "watched" / ref.path).write_text(ref.path)
        home.arrives(ref.path)
    (home.root / "watched" / "b").unlink()

    def is_kept() -> bool:
        state.flush()
        row = state.recorded(refs[1])
        return row is not None and row.kept

    wait_until("it is noticed", is_kept)
    for ref in refs:
        (home.root / "mirror" / ref.path).unlink()
    asked = [["docs", ref.path.encode().hex()] for ref in refs]
    assert home.ask(command="repair", files=asked) == {"files": 1}
    home.arrives("a")
    assert state.recorded(refs[1]) is None


def test_what_an_audit_found_is_named_until_the_file_is_sent_again(home: Home) -> None:
    """By the status, and by a flush, which is not done well then."""
    path = home.root / "watched" / "a"
    path.write_text(
        "x"
    )  # whole before the daemon looks: else it may send what is there between open and write
    home.start()
    told: list[dict[str, Any]] = []

    def is_recorded() -> bool:
        told.append(home.ask(command="file", path=str(path)))
        return told[-1]["recorded"] is not None

    wait_until("it is recorded", is_recorded)
    found = [[b"a".hex(), told[-1]["recorded"]["etag"], "the object is missing", True, ""]]
    assert home.ask(command="audited", source="docs", files=found) == {"remembered": 1}
    (source,) = home.ask(command="status")["sources"]
    assert (source["differing"], source["differences"]) == (1, ["a: the object is missing"])
    assert "1 object differs from the records" in home.ask(command="flush")["unlike"]["docs"]
    path.write_text("changed")
    wait_until("it is sent again", lambda: not home.ask(command="status")["sources"][0]["differing"])
    assert home.ask(command="flush")["unlike"] == {}


def test_the_daemon_takes_over_from_another_machine(home: Home) -> None:
    """Status says what waits and why; after the word it goes at once, also what was asked to be deleted."""
    home.content["sources"][0] |= {"on_delete": "delete"}
    watched, mirror = home.root / "watched", home.root / "mirror"
    for name in ("a", "b", "c"):
        (watched / name).write_text(f"ours: {name}")
    home.start()
    for name in ("a", "b", "c"):
        home.arrives(name)
    assert home.ask(command="take-over", source="docs") == {"taken_over": 0}
    meta = ObjectMeta(of_bytes(b"theirs"), 0, instance="the other")
    DirStore(DirSettings(str(mirror))).put_object("a", b"theirs", meta)
    (watched / "a").unlink()
    wait_until("it waits", lambda: home.ask(command="status")["failures"])
    (watched / "b").write_text("ours: changed")
    wait_until("both wait", lambda: len(home.ask(command="status")["failures"]) == 2)
    status = home.ask(command="status")
    assert "syncd sync --take-over docs" in status["sources"][0]["waits_for_take_over"]
    assert {failure["path"] for failure in status["failures"]} == {"a", "b"}
    assert (mirror / "b").read_text() == "ours: b"
    assert "--take-over docs" in home.ask(command="flush", scan=True)["kept_back"]["docs"]

    assert home.ask(command="take-over", source="docs") == {"taken_over": 1}
    wait_until("it is gone", lambda: not (mirror / "a").exists())
    wait_until("it is replaced", lambda: (mirror / "b").read_text() == "ours: changed")
    wait_until("nothing waits", lambda: not home.ask(command="status")["failures"])
    assert home.ask(command="status")["sources"][0]["waits_for_take_over"] is None


def test_what_waits_and_what_was_done_is_listed(home: Home) -> None:
    """With reasons, up to the limit; a failure is in the history once."""
    home.content["sources"] = [
        home.source("docs", "watched", prefix="docs/"),
        home.source("slow", "slow", prefix="slow/", settle="1h"),
    ]
    (home.root / "slow").mkdir()
    home.start()
    for name in ("a", "d/b"):
        (home.root / "watched" / name).parent.mkdir(exist_ok=True)
        (home.root / "watched" / name).write_text(name)
        home.arrives(f"docs/{name}")
    (home.root / "slow" / "c").write_text("c")
    wait_until("it is noticed", lambda: home.ask(command="pending", limit=5)["total"] == 1)
    (waiting,) = home.ask(command="pending", limit=5)["files"]
    assert (waiting["source"], waiting["path"], waiting["state"]) == ("slow", "c", "settling")

    def done(**request: Any) -> list[tuple[str, str]]:
        found = home.ask(command="history", limit=10, **request)["actions"]
        return [(each["action"], each["path"]) for each in found]

    wait_until("both are noted", lambda: len(done()) == 2)
    assert done() == [("uploaded", "d/b"), ("uploaded", "a")]
    assert done(path=str(home.root / "watched/d")) == [("uploaded", "d/b")]
    assert done(name="slow") == []
    assert "the limit is" in home.ask(command="history", limit=0)["error"]
    assert "the limit is" in home.ask(command="pending")["error"]


def test_health_is_one_word(home: Home) -> None:
    """And whether every source was scanned, as far as it is there."""
    made = home.start()
    wait_until("it is ready", lambda: home.ask(command="health")["ready"])
    assert home.ask(command="health")["health"] == "ok"

    def is_told() -> bool:
        made._live.health = "the watcher sees no events"  # the daemon says each second what it finds itself
        return bool(home.ask(command="health")["health"] == "the watcher sees no events")

    wait_until("it is told", is_told)


def test_the_socket_for_questions_steers_nothing(home: Home) -> None:
    """Each verb is either a question or refused there; the runtime directory has both sockets."""
    made = home.start()
    verbs = Verbs(made._pipeline, made._live, lambda: made._settings)
    for command in VERBS.keys() - QUESTIONS:
        with pytest.raises(ValueError, match="you may query the daemon, but not control it"):
            verbs.tell({"command": command})
    assert VERBS.keys() >= QUESTIONS
    assert verbs.tell({"command": "health"})["health"] == "ok"
    assert {"control.sock", "status.sock"} <= set(os.listdir(home.root / "run"))
    assert "status.sock" not in os.listdir(home.root / "state")

"""Those who judge the campaign are judged: the writers note every state, the judge sees what is torn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.workloads import tree
from tests.support.compare import differences
from tests.support.fault_ledger import Ledger
from tests.support.http_pieces import Head
from tests.support.shelves import DirectoryShelf
from tests.support.states import LoggedStates, StateLog, state_of
from tests.torture.campaign.judge import Judge
from tests.torture.campaign.writer import PEOPLE, Writer


@pytest.mark.parametrize("seed", range(4))
def test_a_writer_notes_every_state_before_it_can_be_seen(tmp_path: Path, seed: int) -> None:
    """After each change of the folder, every file is in a state that the log has for its name."""
    folder, states = tmp_path / "folder", tmp_path / "states"
    folder.mkdir()
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        for name, content in tree(folder).items():
            assert known.had(os.fsdecode(name), content)

    with StateLog(states) as log:
        writer = Writer(folder, "ada", seed, log, large=False, pause_seconds=0)
        known = LoggedStates(states)
        writer.watch = look
        for _ in range(120):
            writer.step()

    found = {os.fsdecode(name): state_of(content) for name, content in tree(folder).items()}
    assert found == writer.files
    assert looks > 120


def test_the_seed_decides_what_a_writer_does(tmp_path: Path) -> None:
    """Two writers with one seed leave the same files; each operation is chosen now and then."""
    outcomes, chosen = [], set()
    for run in ("one", "two"):
        folder = tmp_path / run
        folder.mkdir()
        with StateLog(tmp_path / f"{run}.states") as log:
            writer = Writer(folder, "ada", 8, log, large=False, pause_seconds=0)
            for name in PEOPLE:
                operation = getattr(writer, name)

                def noted(name: str = name, operation: object = operation) -> object:
                    chosen.add(name)
                    return operation()  # type: ignore[operator]

                setattr(writer, name, noted)
            for _ in range(150):
                writer.step()
        outcomes.append((writer.files, (tmp_path / f"{run}.states").read_bytes()))

    assert outcomes[0] == outcomes[1]
    assert chosen == set(PEOPLE)


def _judge(tmp_path: Path) -> tuple[Judge, StateLog, Path]:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    log = StateLog(tmp_path / "states")
    known = LoggedStates(tmp_path / "states")
    return Judge(DirectoryShelf(mirror), known, lambda key: key, tmp_path / "torn"), log, mirror


def test_the_judge_sees_what_is_torn_and_what_is_gone(tmp_path: Path) -> None:
    """A state of the name is fine, one of another name is not; an object that vanishes is reported."""
    judge, log, mirror = _judge(tmp_path)
    with log:
        log.add("a", state_of(b"one"))
        log.add("b", state_of(b"two"))
    (mirror / "a").write_bytes(b"one")
    judge.look()
    assert (judge.verdict.compared, judge.verdict.torn, judge.verdict.deleted) == (1, [], [])

    (mirror / "new").write_bytes(b"two")
    os.rename(mirror / "new", mirror / "a")
    judge.look()
    assert (judge.verdict.compared, judge.verdict.torn) == (1, ["a"])
    assert [path.read_bytes() for path in (tmp_path / "torn").iterdir()] == [b"two"]

    (mirror / "a").unlink()
    judge.look()
    assert judge.verdict.deleted == ["a"]


def test_what_differs_in_the_end_is_named(tmp_path: Path) -> None:
    """A file without its object, and one whose object has other bytes of the same size."""
    folder, mirror = tmp_path / "folder", tmp_path / "mirror"
    folder.mkdir()
    mirror.mkdir()
    for name, content in {"same": b"1", "other": b"2", "absent": b"3"}.items():
        (folder / name).write_bytes(content)
    for name, content in {"same": b"1", "other": b"x"}.items():
        (mirror / name).write_bytes(content)

    found = differences(folder, DirectoryShelf(mirror), "")

    assert sorted(found) == ["absent: 'absent'", "other bytes: 'other'"]


# ---- the ledger -------------------------------------------------------------------------------------------


class _Client:
    """Sends to a ledger what a proxy would."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def send(
        self, method: str, target: str, body: bytes = b"", *, digest: str = "", delivered: bool = True
    ) -> None:
        head = Head(b"", method, f"/bucket/{target}", {"x-amz-meta-syncd-xxh128": digest} if digest else {})
        passage = self.ledger.begin(self.ledger.next_number(), head, None)
        passage.forwarded(body)
        passage.answered(200)
        if delivered:
            passage.delivered()
        self.ledger.end(passage)


def test_what_is_sent_again_is_a_repeat() -> None:
    """The same bytes to the same key, unless other bytes came between or the first answer was lost."""
    client = _Client()
    for body in (b"one", b"one", b"other", b"one"):
        client.send("PUT", "k", body)
    client.send("PUT", "unknown", b"lost", delivered=False)
    client.send("PUT", "unknown", b"lost")

    counted = client.ledger.bytes
    assert (counted.repeated, counted.lost_to_clients, counted.forwarded) == (3, 4, 22)
    assert counted.useful == 3 + 5 + 3 + 4


def test_parts_that_are_sent_again_are_repeats() -> None:
    """Under another upload of the same content, too, and once it is complete; not after other content."""
    client = _Client()

    def upload(upload_id: str, digest: str, *, complete: bool) -> int:
        client.send("POST", "k?uploads", digest=digest)
        client.send("PUT", f"k?partNumber=1&uploadId={upload_id}", b"part")
        if complete:
            client.send("POST", f"k?uploadId={upload_id}")
        return client.ledger.bytes.repeated

    assert upload("1", "aa", complete=False) == 0
    assert upload("2", "aa", complete=True) == 4
    assert upload("3", "aa", complete=False) == 8
    assert upload("4", "bb", complete=True) == 8
    assert upload("5", "aa", complete=False) == 8
    assert upload("6", "", complete=False) == 8
    client.send("PUT", "k?partNumber=1&uploadId=6", b"part")
    assert upload("7", "", complete=False) == 12


def test_a_kill_puts_the_last_bodies_at_risk() -> None:
    """As many as may be in flight; each of them at one kill only."""
    client = _Client()
    for number in range(5):
        client.send("PUT", f"k{number}", b"x" * 10**number)
    client.ledger.killed(2)
    client.ledger.killed(2)

    assert client.ledger.at_risk == 11_000

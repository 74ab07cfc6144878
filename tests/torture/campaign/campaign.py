"""One campaign: writers at work, a daemon that is killed at random times, faults, judges; a reckoning."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncd.state.schema import DATABASE_NAME
from tests.e2e.process import Syncd, wait_until
from tests.support.compare import differences
from tests.support.fault_proxy import KINDS, FaultProxy
from tests.support.http_pieces import Head
from tests.support.shelves import Shelf
from tests.support.states import LoggedStates
from tests.torture.campaign.judge import Judge

WRITERS = {"ada": "people", "bob": "people", "eve": "people", "sql": "database"}
"""Names and habits."""
PREFIX = "p/"
PART_SIZE = 5 << 20
CONCURRENCY = 4
FAULT_SHARE = 0.12
"""Of requests."""
UPLOAD_FAULT_SHARE = 0.3
"""Of those that begin, list, complete and abort uploads: few, and much depends on them."""
STALL_SECONDS = 1.5
TIMEOUTS = {"connect_timeout": "1s", "read_timeout": "1s", "progress_timeout": "1s"}
"""Of the daemon that is killed: shorter than a stall. The last one has those that people have."""
IDLE_SECONDS = 240.0

_RARE = {"refused": 0.2, "redirect": 0.1, "403 page": 0.2}
"""Kinds after which a process sends nothing for a while: less often than the others."""
_STAGES = {"start": (0.3, 0.0), "work": (0.6, 1.0), "long": (0.1, 3.5)}
"""In which a process is killed: how often, and how many seconds of work it has at most. Those who
live long run into stalls and what follows them."""
_READY = b" syncd.daemon: ready: "


@dataclass
class Report:
    """What people want to know about a campaign."""

    kills: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    states: int = 0
    compared: int = 0
    torn: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    failures: list[Any] = field(default_factory=list)
    ended_early: list[int] = field(default_factory=list)
    """Exit codes of daemons that were not there any more when they were to be killed."""
    integrity: list[str] = field(default_factory=list)
    looks: int = 0
    """At the state, while the daemon wrote it."""
    minutes: float = 0.0


class Campaign:
    """Everything of one run lies below ``syncd.root``. The seed decides all that is up to chance here."""

    def __init__(
        self,
        syncd: Syncd,
        shelf: Shelf,
        seed: int,
        *,
        proxy: FaultProxy | None = None,
        calm: Callable[[], None] = lambda: None,
    ) -> None:
        self.report = Report()
        self.syncd = syncd
        self.shelf = shelf
        self.proxy = proxy
        self.folder = syncd.root / "watched"
        self.states = syncd.root / "states.log"
        self.states.touch()
        self.known = LoggedStates(self.states)
        self._calm = calm
        self._seed = seed
        self._chance = random.Random(f"kills {seed}")
        self._start_seconds = 0.0
        self._lives: list[dict[str, object]] = []

    def run(self, kills: int) -> Report:
        """Kill so many times, then let it finish, and compare."""
        try:
            return self._run(kills)
        finally:
            self._keep()

    def _run(self, kills: int) -> Report:
        began = time.monotonic()
        torn = self.syncd.root / "torn"
        with Judge(self.shelf, self.known, lambda key: key.removeprefix(PREFIX), torn) as judge:
            with ExitStack() as work:
                witness = work.enter_context(Witness(self.syncd))
                writers = work.enter_context(Writers(self.folder, self.states, self._seed))
                for number in range(kills):
                    self._live_and_die(number)
            self.report.operations = writers.operations
            self._finish(witness)
        judge.look()
        verdict = judge.verdict
        self.report.torn, self.report.deleted = verdict.torn, verdict.deleted
        self.report.compared = verdict.compared
        self.report.states = self.known.count
        self.report.minutes = (time.monotonic() - began) / 60
        return self.report

    def _live_and_die(self, number: int) -> None:
        """One process, from its start to a moment drawn by chance.

        How long a start takes is up to the machine, and never the same: it is measured each time, and
        those that are to work are given their time from then on.
        """
        stages, shares = zip(*((stage, share) for stage, (share, _) in _STAGES.items()), strict=True)
        stage = "work" if number == 0 else self._chance.choices(stages, shares)[0]
        fraction = self._chance.random()
        began, offset = time.monotonic(), self._log_size()
        self.syncd.start(wait=False)
        if stage == "start":
            time.sleep(fraction * self._start_seconds)
        else:
            wait_until("the daemon works", lambda: self._is_ready(offset), pause=0.01)
            self._start_seconds = time.monotonic() - began
            time.sleep(fraction * _STAGES[stage][1])
        self._lives.append({"life": number, "stage": stage, "seconds": round(time.monotonic() - began, 3)})
        self._kill()

    def _log_size(self) -> int:
        return self.syncd.log.stat().st_size if self.syncd.log.exists() else 0

    def _is_ready(self, offset: int) -> bool:
        assert self.syncd.process is not None
        with self.syncd.log.open("rb") as log:
            log.seek(offset)
            return _READY in log.read() or self.syncd.process.poll() is not None

    def _kill(self) -> None:
        assert self.syncd.process is not None
        code = self.syncd.process.poll()
        if code is None:
            self.report.kills += 1
        else:
            self.report.ended_early.append(code)
        self.syncd.kill()
        if self.proxy is not None:
            self.proxy.ledger.killed(CONCURRENCY)

    def _finish(self, witness: Witness) -> None:
        """The writers have stopped and nothing fails any more: the last process does all that is left."""
        self.report.looks, self.report.integrity = witness.looks, witness.wrong
        self._calm()
        store = {name: value for name, value in self._store().items() if name not in TIMEOUTS}
        self.syncd.write({**self.syncd.content, "stores": {"there": store}})
        self.syncd.start()
        self.report.failures = self.syncd.wait_idle(IDLE_SECONDS)["failures"]
        self.report.integrity += integrity(self.syncd)
        self.syncd.stop()
        self.report.differences = differences(self.folder, self.shelf, PREFIX)
        self.report.unfinished = self.shelf.unfinished()
        if self.proxy is not None:
            self.report.faults = dict(self.proxy.ledger.faults)

    def _store(self) -> dict[str, Any]:
        store: dict[str, Any] = self.syncd.content["stores"]["there"]
        return store

    def _keep(self) -> None:
        """What a person needs to understand a failure."""
        root = self.syncd.root
        (root / "lives.json").write_text(json.dumps({"seed": self._seed, "lives": self._lives}, indent=1))
        if self.proxy is not None:
            self.proxy.ledger.write(root / "requests.jsonl")


class Chooser:
    """Which fault happens to which request: decided by the seed and the request's number, until `rest`."""

    def __init__(self, seed: int) -> None:
        self._is_calm = False
        self._seed = seed
        self._weights = [_RARE.get(kind, 1.0) for kind in KINDS]

    def __call__(self, number: int, head: Head) -> str | None:
        chance = random.Random(f"faults {self._seed} {number}")
        about_upload = "upload" in head.target and "partNumber" not in head.query
        share = UPLOAD_FAULT_SHARE if about_upload else FAULT_SHARE
        if self._is_calm or chance.random() >= share:
            return None
        return chance.choices(list(KINDS), self._weights)[0]

    def rest(self) -> None:
        """From now on everything passes."""
        self._is_calm = True


class Writers:
    """Several programs at work in one folder, each with a seed of its own, as long as it is entered."""

    def __init__(self, folder: Path, states: Path, seed: int, habits: Mapping[str, str] = WRITERS) -> None:
        self.operations = 0
        self._stop = folder.parent / "stop"
        self._commands = [
            [
                *(sys.executable, "-m", "tests.torture.campaign.writer", habit),
                *(str(folder), name, str(seed), str(states), str(self._stop)),
            ]
            for name, habit in habits.items()
        ]

    def __enter__(self) -> Writers:
        self._processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_PROJECT)
            for command in self._commands
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.touch()
        try:
            for process in self._processes:
                printed, _ = process.communicate(timeout=60)
                assert process.returncode == 0, f"a writer ended with {process.returncode}"
                self.operations += int(printed)
        finally:
            for process in self._processes:
                process.kill()
                process.wait()


class Witness:
    """Asks for the status and looks into the state database while the daemon lives and dies."""

    def __init__(self, syncd: Syncd) -> None:
        self.looks = 0
        self.wrong: list[str] = []
        self._syncd = syncd
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness")

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            if not (self._syncd.root / "state" / DATABASE_NAME).exists():
                continue
            done = self._syncd.command("status", "--json", check=False)
            try:
                json.loads(done.stdout)["totals"]["bytes_sent"]
            except (ValueError, KeyError):
                self.wrong.append(f"status ended with {done.returncode}: {done.stdout}{done.stderr}")
            self.wrong += integrity(self._syncd)
            self.looks += 1


_PROJECT = Path(__file__).resolve().parents[3]


def integrity(syncd: Syncd) -> list[str]:
    """What SQLite finds wrong with the state, by a connection that only reads."""
    uri = f"file:{syncd.root}/state/{DATABASE_NAME}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [line for line in found if line != "ok"]

"""A folder, a store, a process and the time that passes for them.

Time passes when a request is under way, when syncd sleeps, and between moves; it jumps from one thing that is
due to the next, so that idle hours cost nothing. A move may lie in wait for a system call or a request
of syncd: then a move is made in the middle of it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat as modes
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec.structs import replace

from syncd.core.errors import StateError
from syncd.core.model import OnDelete, Source
from syncd.pipeline.context import Clock
from tests.support.clock import FakeClock
from tests.support.faults import Call
from tests.torture.simulation.checker import Checker
from tests.torture.simulation.process import Death, Later, Process, reading
from tests.torture.simulation.syscalls import Syscalls
from tests.torture.simulation.tree import Node, Tree, Volume, failure
from tests.torture.simulation.weather import WeatherStore

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ROOT = "/src"
LOG = "log"
"""The name of a file that only grows, as long as it is not emptied."""
RESCAN_SECONDS = 900.0
CALM_SECONDS = 3 * 3600.0
"""Longer than any pause, interval and deferral of syncd."""
PROMPT_SECONDS = 120.0
"""Longer than a healthy store is left alone."""
_MOST_NESTED = 2


@dataclass(slots=True)
class Ambush:
    """A move that is made at the `nth` call from now on of one kind."""

    call: str
    nth: int
    move: Callable[[], None]


@dataclass(slots=True)
class LongWrite:
    """One write that goes on: a program holds the file open, and half of the bytes are there."""

    until: float
    fd: int
    node: Node
    data: bytes
    """The content, once all is there."""
    end: Callable[[], None]


@dataclass(slots=True)
class DiskError:
    """The next `times` calls of a kind fail."""

    call: str
    number: int
    times: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What is so for a whole game."""

    seed: int
    granularity_ns: int = 1
    on_delete: OnDelete = OnDelete.KEEP
    page_size: int = 1000
    random_etags: bool = False
    completes_again: bool = False
    completes_with_meta: bool = False
    """As on BOS: a large new file is sent before its fingerprint is known."""
    settle_seconds: float = 2.0
    audit_seconds: float = 0.0
    folders: bool = False
    full_folders: bool = False
    """Empty folders are carried; so are the others."""
    in_a_row: int = 1
    """So many files a worker takes in a row, as long as there are so many."""
    filled: tuple[tuple[str, bytes, bytes], ...] = ()
    """Files that are there before syncd starts, by name, content, and what another program sent of them."""


@dataclass
class Doom:
    """After so many effects the process is gone."""

    left: int | None = None
    after: bool = False
    dead: bool = False

    def meet(self, after: bool) -> None:
        if self.dead:
            raise Death
        if self.left is not None and after == self.after:
            self.left -= 1
            if self.left <= 0:
                self.left, self.dead = None, True
                raise Death


@dataclass(order=True)
class Event:
    """What the watcher will tell."""

    at: float
    number: int
    path: str = field(compare=False)
    doubt: str = field(compare=False, default="")


class World:
    """Everything of one game."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        streams = random.Random(terms.seed)
        self.chance, self._order, sky, cookies, tokens, parts = (
            random.Random(streams.randrange(1 << 32)) for _ in range(6)
        )
        self._tokens = tokens
        self.clock = FakeClock(wall=1_700_000_000.0 + self.chance.random() * 1000)
        self.tree = Tree(
            self.clock.now_ns,
            lambda: round(self.clock.monotonic() * 1e9),
            granularity_ns=terms.granularity_ns,
            chance=cookies,
        )
        self.trace: list[str] = []
        self._calls = hashlib.sha256()
        self.people = Syscalls(self.tree, privileged=True)
        self.people.mkdir(ROOT)
        self.mount_point = self.tree.root.entries[ROOT[1:].encode()]
        self.volume = Volume(7)
        self.volume.root.mode = 0o755
        self.tree.mounts[self.mount_point] = self.volume
        self.folder: Node = self.volume.root
        """The directory that is meant, whatever one sees at its path."""
        self.checker = Checker(self)
        self.store = WeatherStore(
            sky,
            monotonic=self.clock.monotonic,
            page_size=terms.page_size,
            random_etags=terms.random_etags,
            completes_again=terms.completes_again,
            completes_with_meta=terms.completes_with_meta,
            breathe=self._request,
            watch=self._watch,
            settled=self.checker.settled,
        )
        self._senders = Later(parts)
        self.syscalls = Syscalls(self.tree, breathe=self._syscall)
        self._state_dir = tempfile.mkdtemp(prefix="syncd-simulation-", dir=MEMORY)
        self.source = Source(
            "docs", ROOT, "store", prefix="p/", settle_seconds=terms.settle_seconds,
            rescan_seconds=RESCAN_SECONDS, on_delete=terms.on_delete, append=(f"/{LOG}",), append_seconds=5.0,
            audit_seconds=terms.audit_seconds, max_delete_files=40, max_delete_fraction=1.0,
            append_to_line=terms.seed % 2 == 0,
            records_folders=terms.folders, records_full_folders=terms.full_folders,
        )  # fmt: skip
        self.ambushes: list[Ambush] = []
        self.disk_errors: list[DiskError] = []
        self.events: list[Event] = []
        self.long_writes: list[LongWrite] = []
        self.plans: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self.doom = Doom()
        self._depth = 0
        self._moving = False
        self.disk_full = False
        self.is_doubtful = False
        """Something happened that only a person can judge: to the root, or to what may be deleted."""
        self.uploads_expired = False
        """An upload that was refused before may be gone now: the next one follows after hours."""
        self.process: Process | None = None
        for filled in terms.filled:
            self._fill(*filled)
        with reading(self.syscalls, self._senders):
            self.begin()
        self.run(1.0)  # from here on it is known which directory the root is

    def _fill(self, name: str, content: bytes, sent: bytes) -> None:
        directory = ROOT
        for part in name.split("/")[:-1]:
            directory = f"{directory}/{part}"
            with suppress(FileExistsError):
                self.people.mkdir(directory)
        for each in (sent, content):  # what was sent was in the file
            fd = self.people.open(f"{ROOT}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            self.people.pwrite(fd, each, 0)
            self.people.close(fd)
            self.checker.published()
        self.store.without_metadata(f"p/{name}", sent)

    # ---- the process ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start syncd."""
        self.doom = Doom()
        self.store.closed = False
        self.events.clear()
        try:
            self.process = Process(
                self._state_dir,
                self.source,
                self.store,
                Clock(self.clock.monotonic, self.clock.now_ns, self._order.random),
                sleep=self._sleep,
                chance=self._tokens,
                senders=self._senders,
                effect=self._transaction,
                told=self.trace.append,
                in_a_row=self.terms.in_a_row,
            )
        finally:
            self._moving = False

    def restart(self) -> None:
        """Stop syncd in good order, and start it again."""
        assert self.process is not None
        if self._depth:  # in the middle of something only death comes
            self.doom.left, self.doom.after = 1, False
            return
        with reading(self.syscalls, self._senders):
            try:
                with suppress(StateError):  # what a full disk did not take is lost, and the next one knows
                    self.process.stop()
            except Death:
                self._bury()
            else:
                self.begin()
            self.process.disk_full = self.disk_full

    def turn_policy(self) -> None:
        """The configuration says from the next start on that deletions are told on."""
        if self.source.on_delete is OnDelete.KEEP:
            self.source = replace(self.source, on_delete=OnDelete.DELETE)
            self.checker.policy_turns()
            self.is_doubtful = True
            self.restart()

    def _bury(self) -> None:
        """The process died, and a new one starts. What it sent may take effect yet."""
        assert self.process is not None
        self.trace.append("died")
        self.process.die()
        self.syscalls.exit()
        self._senders.shutdown()
        self.store.closed = False  # also when it died in the middle of its good order
        self.doom = Doom()
        self.begin()
        assert self.process is not None
        self.process.disk_full = self.disk_full

    def _sleep(self, seconds: float) -> None:
        """syncd sleeps between two tries of a request."""
        self.clock.advance(seconds)
        self._deliver()

    # ---- the time ---------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass, and do what becomes due."""
        until = self.clock.monotonic() + seconds
        with reading(self.syscalls, self._senders):
            while self._run_once(until):
                self.checker.not_too_busy()

    def _run_once(self, until: float) -> bool:
        assert self.process is not None
        self._deliver()
        now = self.clock.monotonic()
        times = [at for at in (self.process.due(), self._next_event()) if at is not None]
        at = min(times, default=until)
        if at > now:
            if now >= until:
                return False
            self.clock.advance(min(at, until) - now + 1e-6)  # the clock counts whole nanoseconds
            if at > until:
                return False
            self._deliver()
        elif now >= until:
            return False
        self.checker.step_begins()
        with suppress(Death):
            self.process.step(self._order.random() < 0.5)
        self._depth = 0
        if self.doom.dead:
            self._bury()
        return True

    # ---- what syncd's calls meet ------------------------------------------------------------------------

    def _syscall(self, call: str, path: bytes) -> None:
        self._calls.update(call.encode() + path)
        if self.doom.dead:
            raise Death
        if self._moving:
            return
        self.clock.advance(self._order.random() * 0.002)
        self._meanwhile(call)
        for order in self.disk_errors:
            if order.call == call and order.times > 0:
                order.times -= 1
                raise failure(order.number)

    def _request(self, verb: str, after: bool) -> None:
        if not self._moving:
            self.clock.advance(self._order.random() * (0.2 if not after else 0.01))
            self._meanwhile(verb if not after else f"after {verb}")
        self.doom.meet(after)

    def _watch(self, call: Call) -> None:
        if self.doom.dead:
            raise Death
        self.trace.append(f"{self.clock.monotonic():.3f} {call.verb} {call.key}")
        self.checker.requested(call)

    def _transaction(self, what: str, after: bool) -> None:
        self.doom.meet(after)

    def _meanwhile(self, call: str) -> None:
        """Others do not wait: what lies in wait strikes, events come, another worker gets its turn."""
        for ambush in list(self.ambushes):
            if ambush.call == call:
                ambush.nth -= 1
                if ambush.nth <= 0:
                    self.ambushes.remove(ambush)
                    self._strike(ambush)
        self._deliver()
        if self.doom.dead:
            raise Death
        if self._depth < _MOST_NESTED and self._order.random() < 0.03 and self.process is not None:
            self._depth += 1
            try:
                self.process.nested(self._order.random() < 0.3)
            finally:
                self._depth -= 1
            if self.doom.dead:
                raise Death

    def _strike(self, ambush: Ambush) -> None:
        self._moving = True
        self._depth += 1
        try:
            ambush.move()
        finally:
            self._moving = False
            self._depth -= 1

    # ---- events -----------------------------------------------------------------------------------------

    def tell(self, path: str, fate: str, doubt: str = "") -> None:
        """An event about a path, or a doubt about what is below it; `fate` says what becomes of it."""
        self.checker.published()
        now = self.clock.monotonic()
        delays = {
            "lost": (),
            "soon": (0.001,),
            "twice": (0.001, 0.3),
            "late": (self.chance.uniform(1.0, 120.0),),
        }[fate]
        for delay in delays:
            self._numbers += 1
            self.events.append(Event(now + delay, self._numbers, path, doubt))

    def overflow(self) -> None:
        """The queue of events was too short."""
        self.events.clear()
        self._numbers += 1
        self.events.append(Event(self.clock.monotonic(), self._numbers, "", "events were lost"))

    def write_for_long(self, fd: int, data: bytes, seconds: float, end: Callable[[], None]) -> None:
        """One write: the kernel stamps the file before the first byte, and events come after the last one."""
        node = self.people.node(fd)
        half = len(data) // 2
        node.data, node.torn = data[:half] + node.data[half:], True
        self.tree.stamp(node)
        self.long_writes.append(LongWrite(self.clock.monotonic() + seconds, fd, node, data, end))

    def end_long_writes(self, until: float) -> None:
        """All of them that are over by then."""
        for write in [write for write in self.long_writes if write.until <= until]:
            self.long_writes.remove(write)
            write.node.data, write.node.torn = write.data, False
            self.people.close(write.fd)
            write.end()

    def later(self, seconds: float, plan: Callable[[], None]) -> None:
        """Something is still to be done."""
        self._numbers += 1
        self.plans.append((self.clock.monotonic() + seconds, self._numbers, plan))

    def _next_event(self) -> float | None:
        times = [event.at for event in self.events] + [write.until for write in self.long_writes]
        return min(times + [at for at, *_ in self.plans], default=None)

    def _deliver(self) -> None:
        now = self.clock.monotonic()
        self.end_long_writes(now)
        for plan in sorted(plan for plan in self.plans if plan[0] <= now):
            self.plans.remove(plan)
            plan[2]()
        for event in sorted(event for event in self.events if event.at <= now):
            self.events.remove(event)
            if self.process is None:
                continue
            if event.doubt:
                self.process.pipeline.rescan("docs", event.path, event.doubt)
            else:
                self.process.pipeline.changed("docs", event.path)

    # ---- the end ----------------------------------------------------------------------------------------

    def calm(self) -> None:
        """All faults are over, and time passes; then the store is what the folder is."""
        assert self.process is not None
        self.ambushes.clear()
        self.disk_errors.clear()
        self.doom = Doom()
        self.disk_full = self.process.disk_full = False
        self.tree.mounts[self.mount_point] = self.volume
        for _, node in [(b"", self.folder), *self.folder.below()]:
            if node.kind != modes.S_IFLNK and node.mode & 0o500 != 0o500:
                node.mode |= 0o755 if node.is_directory else 0o644
                self.tree.stamp(node, content=False)
        self.store.clear_up()
        self.checker.published()
        self.run(CALM_SECONDS)
        if self.uploads_expired:
            self.trace.append("a person wants what failed tried again")
            self.process.line.workers.retry("docs", lambda path: True)
            self.run(CALM_SECONDS)
        if self.is_doubtful:
            self.trace.append("a person says that all is as it should be")
            self.process.runner.accept_root()
            self.run(CALM_SECONDS)
            self.checker.went_under_keep.clear()
            self.process.runner.confirm_deletes()
            self.run(CALM_SECONDS)
        self.people.close(self.people.open(f"{ROOT}/last", os.O_WRONLY | os.O_CREAT, 0o644))
        self.tell("last", "soon")
        self.run(PROMPT_SECONDS)
        self.checker.prompt("last")
        self.run(CALM_SECONDS)
        if self.source.audit_seconds:  # which asks as long as it is on
            self.source = replace(self.source, audit_seconds=0.0)
            self.restart()
            self.run(PROMPT_SECONDS)
        self.rest(CALM_SECONDS / 3)

    def rest(self, seconds: float) -> None:
        """All was carried before; and then nothing is asked of the store while time passes."""
        requests = self.store.calls.total()
        self.run(seconds)
        self.checker.quiet(idle_requests=self.store.calls.total() - requests)

    def close(self) -> None:
        """Give back what is real."""
        if self.process is not None:
            self.process.die()
        shutil.rmtree(self._state_dir)

    def report(self) -> list[str]:
        """All that happened, for comparison."""
        return [*self.trace, self._calls.hexdigest(), f"{self.clock.monotonic():.9f}"]

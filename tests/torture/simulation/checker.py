"""What has to be true: at every moment, and when all is quiet.

It knows the folder as it really is (also while its disk is not mounted), every content that each path ever
had, and every request. It knows nothing of syncd, except where it asks the state what is left to do.
"""

from __future__ import annotations

import os
import stat as modes
from collections import deque
from typing import TYPE_CHECKING

from syncd.core.model import FileRef, OnDelete
from tests.support.faults import Call
from tests.support.states import States
from tests.support.store import StoredObject

if TYPE_CHECKING:
    from tests.torture.simulation.tree import Node
    from tests.torture.simulation.world import World

GRACE_SECONDS = 2.0
"""For how long a file has to be gone before its object goes, at least."""
HOUR_SECONDS = 3600.0
STEPS_AN_HOUR = 1500
"""What syncd may do in an hour by itself: looking for a root, probing a store, trying files again."""
STEPS_A_MOVE = 60
"""And because of one thing that happened."""
OUTAGE_SECONDS = 600.0
REQUESTS_AN_OUTAGE = 120
"""In any ten minutes in which the store does not answer; one file after the other would be thousands."""


DESTROYS = frozenset(
    {"put_object", "copy_object", "complete_multipart_upload", "delete_object", "abort_multipart_upload"}
)
"""What replaces or removes an object, or ends an upload."""


class Broken(AssertionError):
    """A promise was broken."""


class Checker:
    """Judges one game."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._states = States()
        self._present: dict[str, float] = {}
        """Since when there is a file at a path."""
        self._gone: dict[str, float] = {}
        """When a path first led nowhere since its object was last written."""
        self._objects: dict[str, StoredObject] = {}
        self._kept: set[str] = set()
        self.went_under_keep: set[str] = set()
        """What was gone when `on_delete` turned, and is not back: its objects wait for the operator."""
        self._first: Broken | None = None
        self.step_began = 0.0
        self._steps: deque[float] = deque()
        self.moves: deque[float] = deque()
        self._outage: deque[float] = deque()

    def _broken(self, what: str) -> Broken:
        """syncd's workers survive whatever a request raises: so it is remembered, too."""
        self._first = self._first or Broken(what)
        return self._first

    def still_whole(self) -> None:
        """Raise what was broken in the middle of something."""
        if self._first is not None:
            raise self._first

    def files(self) -> dict[str, bytes]:
        """The folder as it really is."""
        return {name: node.data for name, node in self._nodes().items()}

    def _nodes(self) -> dict[str, Node]:
        """Everything that is carried; folders, if they are, with a slash."""
        folders, full = self._world.source.records_folders, self._world.source.records_full_folders
        return {
            os.fsdecode(path) + ("/" if node.is_directory else ""): node
            for path, node in self._world.folder.below()
            if node.kind == modes.S_IFREG or (folders and node.is_directory and (full or not node.entries))
        }

    # ---- what happens -----------------------------------------------------------------------------------

    def published(self) -> None:
        """The folder changed: what is there now is something that its path was."""
        nodes = self._nodes()
        files = nodes.keys()
        now = self._world.clock.monotonic()
        whole = {name: node.data for name, node in nodes.items() if not node.torn}
        self._states.add(whole)
        source = self._world.source
        for name in () if source.append_to_line else whole:
            if f"/{name}" in source.append:  # it may be cut anywhere
                for size in range(len(whole[name])):
                    self._states.add({name: whole[name][:size]})
        self.went_under_keep -= files | self._hidden()
        for name in files:
            self._present.setdefault(name, now)
        self._present = {name: since for name, since in self._present.items() if name in files}
        for name in self._states.names() - files:
            self._gone.setdefault(name, now)

    def policy_turns(self) -> None:
        """From now on deletions are told on."""
        self.went_under_keep = self._states.names() - self._present.keys() - self._hidden()

    def _hidden(self) -> set[str]:
        """Names of files that may be where they were, behind what is neither a file nor a directory."""
        nodes = self._world.folder.below()
        odd = tuple(
            os.fsdecode(path) for path, node in nodes if node.kind not in (modes.S_IFREG, modes.S_IFDIR)
        )
        return {
            name for name in self._states.names() if f"{name}/".startswith(tuple(f"{path}/" for path in odd))
        }

    def step_begins(self) -> None:
        """syncd begins to do something."""
        self.step_began = self._world.clock.monotonic()
        self._steps.append(self.step_began)

    def requested(self, call: Call) -> None:
        """syncd sends a request: it holds the key of what that destroys or replaces.

        And it deletes nothing whose file was there all the time.
        """
        now = self._world.clock.monotonic()
        process = self._world.process
        held = process.state.locks._holders if process is not None else {}
        if call.verb in DESTROYS and (self._world.store.store_id, call.key) not in held:
            raise self._broken(f"{call.verb} of {call.key} without its lock")
        if self._world.store.down is not None:
            self._outage.append(now)
        if call.verb != "delete_object":
            return
        name = call.key.removeprefix("p/")
        if self._world.source.on_delete is OnDelete.KEEP:
            raise self._broken(f"{name}: its object was to be deleted, but deletes are kept")
        if name in self.went_under_keep:
            raise self._broken(f"{name}: its object was to be deleted, but it went while deletes were kept")
        since = self._present.get(name)
        if since is not None and since < self.step_began:
            raise self._broken(f"{name}: its object was to be deleted, but the file was there all the time")
        if self._gone.get(name, now) > now - GRACE_SECONDS:
            raise self._broken(f"{name}: its object was to be deleted, but the file went only a moment ago")

    def settled(self, verb: str) -> None:
        """Something changed in the store: every object is something that its file was, and none vanishes."""
        objects = self._world.store.objects
        for key, thing in objects.items():
            name = key.removeprefix("p/")
            if not self._states.had(name, thing.data):
                raise self._broken(
                    f"{name}: after {verb} the object is nothing that its file ever was: {thing.data!r}"
                )
            if self._objects.get(name) is not thing:
                self._objects[name] = thing
                if name in self._present:
                    self._gone.pop(name, None)
                else:  # a late request: the file may have been gone for long
                    self._gone.setdefault(name, self._world.clock.monotonic())
        if self._world.source.on_delete is OnDelete.KEEP:
            if not self._kept <= objects.keys():
                raise self._broken(f"vanished: {sorted(self._kept - objects.keys())}")
            self._kept = set(objects)

    def lost(self, name: str) -> None:
        """The store has lost an object: that is no deletion of ours, and an audit is to find it."""
        self._kept.discard(f"p/{name}")
        self._objects.pop(name, None)

    def not_too_busy(self) -> None:
        """However much fails, syncd waits between its tries."""
        self.still_whole()
        now = self._world.clock.monotonic()
        for times, seconds in (
            (self._steps, HOUR_SECONDS), (self.moves, HOUR_SECONDS), (self._outage, OUTAGE_SECONDS),
        ):  # fmt: skip
            while times and times[0] < now - seconds:
                times.popleft()
        if len(self._steps) > STEPS_AN_HOUR + STEPS_A_MOVE * len(self.moves):
            raise Broken(f"{len(self._steps)} steps in an hour: a busy loop")
        if len(self._outage) > REQUESTS_AN_OUTAGE:
            raise Broken(f"{len(self._outage)} requests in ten minutes to a store that does not answer")

    def prompt(self, name: str) -> None:
        """A file that was saved after everything was well again is carried soon, and its store is open."""
        process = self._world.process
        if f"p/{name}" not in self._world.store.objects:
            raise Broken(f"{name} was saved after all troubles, and is not carried after minutes")
        if process is not None and process.line.workers.queue.is_shut:
            raise Broken("the store took a file, and is still left alone")

    # ---- when all is quiet ------------------------------------------------------------------------------

    def quiet(self, *, idle_requests: int) -> None:
        """Faults are over, and enough time has passed: everything is in its place, and nothing is left."""
        world = self._world
        process = world.process
        assert process is not None
        self.still_whole()
        objects = {key.removeprefix("p/"): thing.data for key, thing in world.store.objects.items()}
        files = self.files()
        for name, content in files.items():
            if objects.get(name) != content:
                raise Broken(f"{name} is {content!r}, and in the store {objects.get(name)!r}")
            row = process.state.recorded(FileRef("docs", name))
            if row is None or row.kept:
                raise Broken(f"{name} is not recorded, or as one that is gone: {row}")
        there = {os.fsdecode(path) for path, node in world.folder.below() if not node.is_directory}
        there |= files.keys()
        if not world.folder.entries:  # it may as well be a disk that is not there: nothing is concluded
            return
        self._nothing_left(objects.keys() - there)
        counts, processing = process.line.workers.queue.counts()
        leftovers = {
            "dirty files": counts,
            "files in processing": processing,
            "checkpoints": process.state.checkpoints.all(),
            "unfinished uploads": list(world.store.uploads),
            "failures": process.state.failures.page(),
            "differences": [ref for ref, _ in process.state.audits.standing("docs")[1] if ref.path in files],
            "descriptors": world.syscalls.descriptors,
            "requests in an idle hour": idle_requests,
        }
        for what, left in leftovers.items():
            if left:
                raise Broken(f"when all is quiet there are {what}: {left}")

    def _nothing_left(self, surplus: set[str]) -> None:
        """Of paths that lead nowhere no object is left that is recorded, where deletions are told on.

        An object that came into being without anybody being told of it, whose file was gone before the
        next try, has no owner: `syncd verify` shows it.
        """
        process = self._world.process
        assert process is not None
        if self._world.source.on_delete is OnDelete.KEEP:
            met = {os.fsdecode(path) for path, _ in process.state.recorded_page("docs", None, 1000)} & surplus
            if met:
                raise Broken(f"gone, but scans still meet the rows: {met}")
            return
        left = [name for name in sorted(surplus) if process.state.recorded(FileRef("docs", name)) is not None]
        if left:
            raise Broken(f"gone, but still in the store: {left}")

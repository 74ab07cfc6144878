"""Does the store already hold what a source is about to send?

A source that was never brought in line with its store (it is new, or the state was lost) may find its objects
there already; so may the last small files of a process that died before their records were written. Until the
source has been gone through once, the store is asked for an object before a new file is sent; where nothing
lies under the source's prefix, there is nothing to ask for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from syncd.core.errors import StoreError, StoreUnavailable
from syncd.core.model import Source
from syncd.state.state import State
from syncd.storage.base import ObjectStore

log = logging.getLogger("syncd.transfer")


class Reconciliation:
    """Switches the asking on for one source, and off for good when it is no longer needed.

    For any thread. Raises StateError.
    """

    def __init__(
        self, source: Source, store: ObjectStore, state: State, switch: Callable[[bool], None]
    ) -> None:
        self._source = source
        self._store = store
        self._state = state
        self._switch = switch
        self._name = f"reconciled:{source.name}"
        self._asked = False
        self._seen_whole = False
        self.is_on = False
        """Whether new files are asked for before they are sent."""

    def begin(self) -> None:
        """Before the first file is sent: ask, unless it is known that nobody has to."""
        if self._state.interrupted:  # however often we are started until all has been compared
            self._state.learn(self._store.store_id, self._name, "")
        if not self._state.learned(self._store.store_id, self._name):
            self._turn(True)

    def probe(self) -> None:
        """Before a scan: is there anything to adopt? One request, until the store has answered."""
        if self._asked or not self.is_on:
            return
        try:
            first = next(self._store.list_objects(self._source.prefix), None)
        except StoreUnavailable:
            return  # asking for each file does no harm; the next scan tries again
        except StoreError as refused:
            # Whoever may not list gets "forbidden" for what does not exist: asking would stop everything.
            log.warning("%s: objects are sent without asking for them before: %s", self._source.name, refused)
            self._turn(False)
            return
        self._asked = True
        if first is None:
            self._end("nothing was there")
        else:
            log.info("%s: the store holds objects already: they are compared first", self._source.name)

    def seen_whole(self) -> None:
        """A scan has told everything that differs."""
        self._seen_whole = True

    def drained(self) -> None:
        """Nothing of the source waits any more: if all was told before, and nothing failed, it is over."""
        if self._seen_whole and self.is_on and not self._state.failure_count().get(self._source.name):
            self._end("all was compared")

    def _end(self, why: str) -> None:
        self._state.learn(self._store.store_id, self._name, why)
        self._turn(False)

    def _turn(self, on: bool) -> None:
        self.is_on = on
        self._switch(on)

"""Decides whether the store may already hold what a source is about to send.

The store may hold objects of a source whose records are missing: the source is new to this state, the state
was lost, or a process did not end cleanly and may not have recorded its last small files. Then the engine
asks the store for the object before it sends a new file, until a process that began after that has compared
every file of the source once. It lists the prefix, and looks at an object where that is not enough. If
nothing lies under the source's prefix, it does not ask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain

from syncd.core.errors import StoreError, is_denied
from syncd.core.model import Source
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.reuse import Listing

log = logging.getLogger("syncd.transfer")


class Reconciliation:
    """Calls `switch` to turn the questions on for one source, and off when everything is compared.

    `switch` gets the new values of fields of the engine's source. For any thread. Raises StateError.
    """

    def __init__(
        self,
        source: Source,
        store: ObjectStore,
        state: State,
        switch: Callable[..., None],
        heartbeat: Heartbeat,
        monotonic: Callable[[], float],
    ) -> None:
        self._source = source
        self._store = store
        self._state = state
        self._switch = switch
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._name = f"reconciled:{source.name}"
        self._asked = False
        self._denied = False
        self._seen_whole = False
        self.is_on = False
        """Whether the engine asks for the object of a new file before it sends the file."""

    def begin(self) -> None:
        """Turn the questions on before the first file, unless all was compared since the last unclean end."""
        compared_in = self._state.learned(self._store.store_id, self._name) or ""
        number = compared_in.partition(":")[0]
        if not number.isdigit() or int(number) <= self._state.unclean_life:
            self._turn(True)

    def probe(self) -> StoreError | None:
        """Check before a scan, with one request, whether the prefix has objects; repeat it until answered.
        Returns the error otherwise.

        If listing is denied, no file is asked for until a later scan finds it allowed.
        """
        if self._asked or not (self.is_on or self._denied):
            return None
        objects = self._store.list_objects(self._source.prefix)
        listing = Listing(objects, self._heartbeat, self._monotonic)
        try:
            first = next(objects, None)
        except StoreError as error:
            if not is_denied(error):
                self._turn(True, listing)  # it asks again, and so does the next scan
                return error
            # Without the permission to list, a missing object is "forbidden", so answers say nothing.
            if not self._denied:
                log.warning("%s: files are sent without asking for objects: %s", self._source.name, error)
            self._denied = True
            self._turn(False)
            return None
        self._asked = True
        self._denied = False
        if first is None:
            self._end("nothing was there")
        else:
            self._turn(True, Listing(chain([first], objects), self._heartbeat, self._monotonic))
            log.info("%s: the store already has objects; syncd compares them first", self._source.name)
        return None

    def seen_whole(self) -> None:
        """Note that a complete scan has marked every file that differs."""
        self._seen_whole = True

    def drained(self) -> None:
        """Turn the questions off, because no file of the source waits after a complete scan. Files that
        failed are asked for at each further try.
        """
        if self._seen_whole and self.is_on:
            self._end("all was compared")

    def _end(self, why: str) -> None:
        self._state.learn(self._store.store_id, self._name, f"{self._state.life}: {why}")
        self._turn(False)

    def _turn(self, on: bool, listing: Listing | None = None) -> None:
        self.is_on = on
        self._switch(reconciling=on, listing=listing)

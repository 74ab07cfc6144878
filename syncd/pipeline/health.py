"""Judges from the results of its files whether one store is usable, paused, or full.

An unclear failure is followed by a neutral question, which sends no content. If that fails, too, the fault is
the store's, and its queue hands out nothing until a probe shows that the store works again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from math import inf

from syncd.core.backoff import Breaker
from syncd.core.errors import (
    DISK_SCHEDULE,
    QUOTA_FILES,
    QUOTA_SCHEDULE,
    PutsWait,
    QuotaExceeded,
    Reaction,
    StoreError,
    StoreUnavailable,
    is_unclear,
    react,
    way,
)
from syncd.core.model import FileRef
from syncd.pipeline.context import Clock
from syncd.pipeline.queue import WorkQueue

store_log = logging.getLogger("syncd.store")

_STATE_PAUSE_SECONDS = 5.0  # between attempts to write the state (disk full)
_VAIN_QUESTION_SECONDS = 3600.0
"""A store that answers no neutral question for so long is probed with content, ever more rarely: it may take
content and answer no question."""
_HANG_SECONDS = 15.0  # to the next probe of a silent directory, unless `hangs` is called again
_PROBES = 6  # failing probes of a single pass before it gives up a store that answers


class Health:
    """Whether the store of one `queue` can be used. For any thread.

    `question` asks the store something neutral, and returns the error or None. An unusable store ends a
    single pass (`once`); one that answers does so only after `most_in_vain` more failures.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue,
        question: Callable[[], StoreError | None],
        clock: Clock,
        *,
        once: bool,
        is_disk: bool,
        concurrency: int,
    ) -> None:
        self.gave_up: BaseException | None = None
        """The error with which a single pass ended without the store."""
        self.quota = ""
        """Why no content is sent; empty: it is sent."""
        self._name = name
        self._queue = queue
        self._question = question
        self._clock = clock
        self._once = once
        self._most_in_vain = concurrency + _PROBES
        self._in_vain = 0
        """How often in a row a file failed in a single pass although the store answered."""
        self._trouble = ""
        self._puts = Breaker(DISK_SCHEDULE if is_disk else QUOTA_SCHEDULE, threshold=QUOTA_FILES)
        self._quota_met_at = -inf
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._asked: tuple[float, StoreError | None] = (-inf, None)
        self._shut_by_trouble = False
        self._shut_at = self._content_at = inf
        """When the store was shut, and when content may probe it although the question fails."""
        self._is_question_vain = False
        """The store took content, and the neutral question failed before and after."""

    @property
    def paused_for(self) -> str:
        """Return why nothing is sent to this store now; empty: files are sent."""
        return self._trouble if self._queue.is_shut else self.quota

    # ---- before a file ----------------------------------------------------------------------------------

    @property
    def is_in_trouble(self) -> bool:
        """Return whether trouble, not single files, shut the store: then a question goes before content."""
        return self._shut_by_trouble and self._queue.is_shut

    def ask_again(self, ref: FileRef) -> bool:
        """Probe the store with a neutral question; return whether the file may go on as another probe."""
        trouble = self._question()
        if trouble is None:
            self.answered()
            return True
        now = self._clock.monotonic()
        if isinstance(trouble, StoreUnavailable) and now >= self._content_at:
            self._content_at = now + (now - self._shut_at)
            return True
        self.judge(ref, trouble, react(trouble, 1, self._clock.chance()), asked=True)
        return False

    def may_put(self, now: float) -> None:
        """Raise PutsWait unless content may be sent now: the store has room, or this is a probe."""
        with self._lock:
            if not self._puts.allows(now):
                raise PutsWait(self.quota, max(1.0, (self._puts.until or now) - now))

    # ---- after a file -----------------------------------------------------------------------------------

    def answered(self, began: float = -inf) -> None:
        """Note that the store answered, or did a request sent after `began`."""
        self._in_vain = 0
        if self._shut_by_trouble and began > self._shut_at and self._queue.is_shut:
            self._is_question_vain = self._question() is not None
        if self._queue.answered():
            store_log.info("store %s: works again", self._name)

    def took_content(self, began: float) -> None:
        """Note that the store took content. A file begun before the quota was met proves no room."""
        with self._lock:
            if self.quota and began <= self._quota_met_at:
                return
            recovered, self.quota = self._puts.success(), ""
        if recovered:
            store_log.info("store %s: accepts content again", self._name)

    def ask(self, error: BaseException) -> StoreError | None:
        """Return what a neutral question meets after this error; None: the store answers, so that the error
        is about one file, or the error needs no question.

        One thread asks for all whose requests have failed by then.
        """
        if not is_unclear(error):
            return None
        failed_at = self._clock.monotonic()
        with self._asking:
            if self._asked[0] < failed_at:
                trouble = self._question()
                self._is_question_vain = self._is_question_vain and trouble is not None
                self._asked = (self._clock.monotonic(), None if self._is_question_vain else trouble)
            return self._asked[1]

    def judge_quota(self, ref: FileRef, error: BaseException) -> None:
        """Read no more content, except as a probe, after several different files met a quota."""
        if not isinstance(error, QuotaExceeded):
            return
        with self._lock:
            self._puts.failure(self._clock.monotonic(), self._clock.chance(), what=ref)
            self._quota_met_at = self._clock.monotonic()
            was, self.quota = self.quota, str(error) if self._puts.until is not None else ""
        if self.quota and not was:
            store_log.error(
                "store %s: accepts no content: %s", self._name, error, extra={"cause": f"quota {self._name}"}
            )

    def judge(
        self,
        ref: FileRef | None,
        error: BaseException,
        reaction: Reaction,
        *,
        answers: bool = False,
        asked: bool = False,
    ) -> None:
        """Pause or resume the store. A store that answers counts as there, even if it refuses one key.

        `answers`: it answered a neutral question; `asked`: `error` is the result of that question.
        """
        if answers and self.is_in_trouble:
            self.answered()
        if reaction.pause_seconds:
            begins = self._queue.pause(reaction.pause_seconds)
        elif reaction.stop:
            begins = self._queue.pause(_STATE_PAUSE_SECONDS)
        elif reaction.store_failed and ref is not None:
            begins = self._queue.stumbled(
                ref, way(error), self._clock.chance(), at_once=asked, answers=answers
            )
        elif isinstance(error, StoreError) and error.status is not None:  # no status: no request was sent
            self.answered()
            return
        else:
            self._queue.probe()
            return
        if not self._queue.is_shut:
            return
        if self._once and answers and self._in_vain < self._most_in_vain:
            self._in_vain += 1  # the store answers: it may take one of the other files
            return
        self._shut(error, begins=begins, trouble=asked)

    # ---- beside the files -------------------------------------------------------------------------------

    def doubt(self, source: str, error: StoreError) -> None:
        """Pause the store if a neutral question fails after one about a whole source failed."""
        if not self._queue.is_shut and (trouble := self.ask(error)) is not None:
            self.judge(FileRef(source, ""), trouble, react(trouble, 1, self._clock.chance()), asked=True)

    def hangs(self, error: StoreError) -> None:
        """Pause the store, because its directory does not answer. Call it again while that lasts."""
        begins = self._queue.pause(_HANG_SECONDS)
        self._shut(error, begins=begins, trouble=True)

    def _shut(self, error: BaseException, *, begins: bool, trouble: bool) -> None:
        self._trouble, self._shut_by_trouble = str(error), trouble
        if begins:
            self._shut_at = self._clock.monotonic()
            self._content_at = self._shut_at + _VAIN_QUESTION_SECONDS
            store_log.error(
                "store %s: paused: %s", self._name, error, extra={"cause": f"paused {self._name}"}
            )
        if self._once:
            self.gave_up = error
            self._queue.close()

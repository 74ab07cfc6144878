"""One thread for each source: it checks the root, scans it, and decides which deletions are due.

The thread sleeps until something is requested (by the watcher, a reload, the operator) or due (the periodic
scan, another check of a missing root, the end of a deletion's grace period).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable
from math import inf
from typing import Any

from msgspec.structs import replace

from syncd.core.deletions import Deletions
from syncd.core.errors import StateError, Stopped
from syncd.core.model import FileRef, OnDelete, Source
from syncd.core.patterns import ObjectRules, Rules
from syncd.core.schedule import ScanSchedule
from syncd.core.words import counted
from syncd.pipeline.auditor import Auditor
from syncd.pipeline.context import Context
from syncd.pipeline.donors import is_any_in_the_way
from syncd.pipeline.reconcile import Reconciliation
from syncd.pipeline.source_status import ScanResults, SourceStatus, WatchHandle
from syncd.pipeline.workers import Workers
from syncd.sources.entries import nothing_fills
from syncd.sources.root import RootGuard
from syncd.sources.scan import compare
from syncd.sources.scan.compare import ScanReport
from syncd.state.state import State
from syncd.transfer.in_doubt import waits_for_others
from syncd.transfer.local import EngineSource
from syncd.transfer.pace import affinity
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.reuse import census_of

log = logging.getLogger("syncd.scan")

_AFTER_FILES_SECONDS = 0.1
"""In a single pass, how long until it checks again whether all its files are done."""
_LEAST_GRACE_SECONDS = 2.0
_HELD = "deletes-held:"  # the state keeps the reason under this name until the operator confirms
_POLICY = "on-delete:"  # the policy under which the source was last served
DELETED = "deleted:"
"""The state keeps `Deletions.spent` under this name and that of the source."""
_TURNED = "on_delete was keep until now: files that are gone may have objects that you want to keep"


class SourceRunner:
    """Scans one source when it is due, and guards its root and its deletions."""

    def __init__(
        self,
        source: Source,
        workers: Workers,
        context: Context,
        heartbeat: Heartbeat,
        watch: WatchHandle | None = None,
    ) -> None:
        self.source = source
        self.rules = Rules.of(source)
        """The watcher shares them, because they remember directories."""
        self.workers = workers
        self.clock = context.clock
        self.news = SourceStatus()
        self.first_scan_done = threading.Event()
        self._grace_seconds = 0.0 if context.once else max(source.settle_seconds, _LEAST_GRACE_SECONDS)
        self.deletions = Deletions(
            source.max_delete_files,
            source.max_delete_fraction,
            grace_seconds=self._grace_seconds,
            window_seconds=source.rescan_seconds,
        )
        engine = workers.engine
        workers.donors.caught_up[source.name] = self.is_caught_up
        self._instance = context.instance_of(source)
        self.foreigners = engine.foreigners
        engine.sources[source.name] = EngineSource(
            source,
            instance=self._instance,
            wants=self.rules.wants_file,
            fills=nothing_fills if source.records_full_folders else self.rules.fills,
            appends=Rules.of_appended(source),
            properties=ObjectRules(source).of,
        )
        self._reconciliation = Reconciliation(
            source, engine.store, context.state, self._tell_engine, heartbeat, context.clock.monotonic
        )
        self._guard = RootGuard(source, context.state)
        self.auditor = Auditor(source, workers, context, lambda: heartbeat.reading(source.name))
        self._heartbeat = heartbeat
        self._state = context.state
        self._store_id = engine.store.store_id
        self._watch, self._once = watch or WatchHandle(), context.once
        self._harmless: tuple[FileRef, ...] = ()  # missing files whose objects are not in the way
        self.schedule = ScanSchedule()
        self._was_away = self._taken_up = False
        self._mounts_stay = False  # until the next full scan, because the operator says so
        self._changed = threading.Condition()
        self._busy = self._stopping = self._started = False
        self._thread = threading.Thread(target=self._run, name=f"source-{source.name}", daemon=True)

    # ---- what others ask --------------------------------------------------------------------------------

    def ask(self, subtree: str, reason: str) -> None:
        """Scan `subtree` (empty: everything) soon."""
        with self._changed:
            self.schedule.ask(subtree, reason)
            self._changed.notify()

    def ask_now(self, subtree: str, reason: str) -> None:
        """Like `ask`, even if the source was put off because its root was missing."""
        with self._changed:
            self.schedule.ask(subtree, reason)
            if self.schedule.setbacks:
                self.schedule.next_scan = self.clock.monotonic()
            self._changed.notify()

    def gone(self, ref: FileRef) -> None:
        """Note that a recorded file no longer exists, as a scan or a worker found."""
        with self._changed:
            if self.workers.queue.allowed_at(ref) is not None:
                return  # a worker will delete its object
            now = self.clock.monotonic()
            self.deletions.add(ref, now)
            if self.schedule.next_judgement is None:
                self.schedule.next_judgement = now + self._grace_seconds
                self._changed.notify()

    def file_done(self, ref: FileRef) -> None:
        """Note that a worker finished a file, and that its object stays or is deleted."""
        with self._changed:
            self.deletions.withdraw(ref)
        self._end_reconciliation(ref)

    def confirm_deletes(self) -> int:
        """Allow the waiting deletions (in a single pass, all it will find); return how many wait."""
        self._state.learn(self._store_id, _HELD + self.source.name, "")
        self._state.learn(self._store_id, _POLICY + self.source.name, self.source.on_delete.value)
        with self._changed:
            self._mounts_stay = True
            self.schedule.ask("", "deletions were allowed")
            if self._once:
                self.deletions.confirm_all()
            number = self.deletions.confirm()
            self.schedule.next_judgement = self.clock.monotonic()
            self._changed.notify()
        return number

    def accept_root(self) -> None:
        """Accept that the root is now a different directory, because the operator says so."""
        with self._changed:
            self._guard.accept()
            self.schedule.ask("", "the root was accepted")
            self.schedule.next_scan = self.clock.monotonic()
            self._changed.notify()

    def waits_for_take_over(self) -> str:
        """Return why deletions and overwrites wait, and the operator's remedy; empty: they do not wait."""
        return self.foreigners.waits(self.source.name)

    def deletions_wait(self) -> str:
        """Return why deletions wait for the operator; empty: none does."""
        return self.news.deletes_reason or self.waits_for_take_over()

    def take_over(self) -> int:
        """Take over from other machines that wrote here, because the operator says so; return how many.

        In a single pass those that it will find count, too. What waited because of them is retried.
        """
        found = self.foreigners.take_over(self.source.name, ahead=self._once)
        if not self._once:
            self.workers.retry(self.source.name, lambda path: True)
            self.ask("", "this machine takes over")
        return found

    def start(self) -> None:
        """Start the thread, once. Raises StateError."""
        if not self._started:
            self.begin()
            self._started = True
            self._thread.start()

    def begin(self) -> None:
        """Prepare the first step. Raises StateError."""
        self.foreigners.begin(self.source.name, self._instance)
        self._reconciliation.begin()
        if not self._once:
            self.auditor.begin()
        self._heed_policy()
        self.deletions.held = self._state.learned(self._store_id, _HELD + self.source.name) or ""
        spent = self._state.learned(self._store_id, DELETED + self.source.name)
        self.deletions.recall(spent, self.clock.monotonic(), self.clock.now_ns())

    def _heed_policy(self) -> None:
        """Hold the deletions of what vanished under `keep` if the policy changes: it was meant to stay."""
        policy, name = self.source.on_delete, self.source.name
        before = self._state.learned(self._store_id, _POLICY + name)
        if before == policy.value:
            return
        if before == OnDelete.KEEP.value and not self._state.learned(self._store_id, _HELD + name):
            self._state.learn(self._store_id, _HELD + name, _TURNED)
            log.warning("%s: %s; to allow them: syncd sync --allow-deletes %s", name, _TURNED, name)
        self._state.learn(self._store_id, _POLICY + name, policy.value)

    def _none_went_under_keep(self) -> None:
        """Let the new policy decide, because a full scan under it found nothing gone."""
        if self.deletions.held == _TURNED and not self.deletions.waiting():
            self._state.learn(self._store_id, _HELD + self.source.name, "")
            with self._changed:
                self.deletions.held = ""

    def stop(self) -> None:
        """Ask the thread to end, without waiting."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.workers.queue.wake_scans()

    def is_among(self, given_up: Collection[int | str]) -> bool:
        """Return whether its thread is one of these, by identifier."""
        return self._thread.ident in given_up and self._thread.is_alive()

    def account(self) -> None:
        """Stop counting, after `stop`, deletions that were allowed and will not happen."""
        with self._changed:
            self.deletions.give_back(self.workers.queue.is_processing)
            self._keep_spent()

    def _keep_spent(self) -> None:
        spent = self.deletions.spent(self.clock.monotonic(), self.clock.now_ns())
        self._state.learn(self._store_id, DELETED + self.source.name, spent)

    def leave_out(self, reason: str) -> None:
        """Leave the source out of a single pass, because its folder does not answer."""
        self.news.waiting_for = reason
        self.workers.discard(self.source.name)
        self.first_scan_done.set()
        self.stop()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the thread; return whether it ended."""
        if self._started:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def should_stop(self) -> bool:
        """Return whether a running scan is to end."""
        self._heartbeat.step()
        return self._stopping

    def settled(self) -> bool:
        """Return whether a single pass has scanned it, and each deletion is allowed or waits."""
        with self._changed:
            if self._stopping:
                return True
            undecided = self.deletions.waiting() > 0 and self.news.deletes_parked == 0
            return self.is_scanned() and not undecided

    def is_scanned(self) -> bool:
        """Return whether it was scanned, and no scan runs or is asked for."""
        with self._changed:
            return self.first_scan_done.is_set() and not (self._busy or self.schedule.asked)

    def is_caught_up(self, since: float) -> bool:
        """See `ScanSchedule.is_caught_up`. A source that cannot be scanned counts as caught up."""
        with self._changed:
            is_blind = bool(self._watch.coverage().reason) and not self._once
            is_away = self._stopping or self.news.waiting_for != ""
            return is_away or self.schedule.is_caught_up(since, is_blind=is_blind)

    # ---- the loop ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        affinity.narrow()
        while (due := self._next()) is not None:
            if not self._turn(*due):
                return

    def step(self) -> bool:
        """Do what is due, in the calling thread; return False if nothing was."""
        due = self._take(self.clock.monotonic())
        return due is not None and self._turn(*due)

    def _take(self, now: float) -> tuple[str, str] | None:
        """Return what is due; see `ScanSchedule.take`."""
        due = self.schedule.take(now)
        return ("", "") if due is None and self.auditor.due() <= now else due

    def _turn(self, subtree: str, reason: str) -> bool:
        """Do what is due; return False after a request to stop."""
        try:
            with self._heartbeat.reading(self.source.name):
                if reason:
                    self.round(subtree, reason)
                self.judge_deletions()
                is_settled = self.first_scan_done.is_set() and not (
                    self.news.waiting_for or self._reconciliation.is_on
                )
                with self._heartbeat.reading(""):
                    self.auditor.step(is_settled=is_settled)
        except Stopped:
            return False
        except StateError as error:
            log.error("%s: %s", self.source.name, error, extra={"cause": "state"})
            self._set_back(f"the last scan failed: {error}")
        except Exception as error:
            log.error("%s: the scan failed", self.source.name, exc_info=error)
            self._set_back(f"the last scan failed: {error!r}")
        finally:
            self._heartbeat.rest()
        return True

    def _next(self) -> tuple[str, str] | None:
        """Sleep until something is due; return what to scan and why. An empty reason: only deletions or the
        audit are due; None: the end.
        """
        with self._changed:
            self._busy = False
            while not self._stopping:
                now = self.clock.monotonic()
                due = self._take(now)
                if due is not None:
                    self._busy = True
                    return due
                until = self.due()
                self._changed.wait(None if until is None else max(0.001, until - now))
        return None

    def due(self) -> float | None:
        """Return when there is something to do (monotonic seconds); None: only when it is asked."""
        at, audit_at = self.schedule.due(self.clock.monotonic()), self.auditor.due()
        return at if audit_at == inf else min(audit_at, audit_at if at is None else at)

    # ---- steps ------------------------------------------------------------------------------------------

    def round(self, subtree: str, reason: str) -> ScanReport | None:
        """Check the root and, if it is the expected directory, scan it. None: the root is in doubt."""
        if not self._root_is_right():
            return None
        with self._heartbeat.reading(""):  # a silent store does not count as a silent folder
            if (trouble := self._reconciliation.probe()) is not None:
                self.workers.health.doubt(self.source.name, trouble)
        if not self._taken_up:
            self._taken_up = True
            self.workers.take_up(self.source.name, self.rules.wants_file)
        started = self.clock.monotonic()
        sink = self._sink()
        mounts_stay = False
        if not subtree:
            with self._changed:
                mounts_stay, self._mounts_stay = self._mounts_stay, False
                self.deletions.scan_begins()
            self._tell_engine(mounts_stay=mounts_stay)
        self.news.scanning = True
        try:
            report = compare.scan(
                self.source,
                self.rules,
                self._state,
                sink,
                subtree=subtree,
                should_stop=self.should_stop,
                store_id=self._store_id,
                mounts_stay=mounts_stay,
                keeps_folders=True,
            )
        finally:
            self.news.scanning = False
        if report.doubt:
            self._away(report.doubt)
            return None
        self._note(subtree, reason, report, sink)
        now = self.clock.monotonic()
        poll = bool(self._watch.coverage().reason or (self.deletions.unseen and self.deletions.waiting()))
        with self._changed:  # not earlier: a scan that cannot be recorded has failed
            self.schedule.scanned(
                subtree,
                now,
                interval=self.source.rescan_seconds,
                took_seconds=now - started,
                poll=poll,
                chance=self.clock.chance(),
            )
        return report

    def _sink(self) -> ScanResults:
        return ScanResults(
            self.source,
            self.news,
            mark=self._mark_found,
            gone=self.gone,
            keep=self._state.keep,
            now_ns=self.clock.now_ns,
            once=self._once,
        )

    def _mark_found(self, ref: FileRef, quiet_seconds: float) -> bool:
        rest = self._heartbeat.rest  # while the queue is full the workers must move, and they have heartbeats
        was_clean = self.workers.queue.mark_found(
            ref, quiet_seconds=quiet_seconds, cancelled=self._is_stopping, waits=rest
        )
        self._heartbeat.step()
        return was_clean

    def _is_stopping(self) -> bool:
        return self._stopping

    def judge_deletions(self) -> None:
        """Hand due and allowed deletions to the workers, if the root is the expected directory."""
        with self._changed:
            self.schedule.next_judgement = None
            if not self.deletions.waiting():
                self.news.deletes_parked, self.news.deletes_reason = 0, ""
                return
            gone = self.deletions.refs()
        if self._once and self._is_sending() and not self._are_in_the_way(gone):
            # A renamed file is copied from what is to be deleted.
            with self._changed:
                self.schedule.next_judgement = self.clock.monotonic() + _AFTER_FILES_SECONDS
            return
        if not self._root_is_right():
            return
        files, _ = self._state.recorded_totals(self.source.name)
        with self._changed:
            verdict = self.deletions.judge(self.clock.monotonic(), files)
            self.schedule.next_judgement = verdict.next_look
            if self.deletions.unseen and verdict.parked > self.news.deletes_parked == 0:
                self.schedule.poll_by(self.clock.monotonic())
            if verdict.rescan:
                self.schedule.ask("", "more files are gone than could be remembered")
        if verdict.parked and not self.news.deletes_parked:
            words = "%s: %s: %s; to allow them: syncd sync --allow-deletes %s"
            waits, name = counted(verdict.parked, "deletion", "waits"), self.source.name
            log.warning(words, name, waits, verdict.reason, name)
        self.news.deletes_parked, self.news.deletes_reason = verdict.parked, verdict.reason
        if verdict.allowed:
            self._hand_over(verdict.allowed)

    def _hand_over(self, allowed: Iterable[FileRef]) -> None:
        with self._changed:
            if self._stopping:
                return  # after a reload the new runner decides
            self._keep_spent()
            engine, refs = self.workers.engine, sorted(allowed, key=self.workers.engine.keys.of)
            prefix, keys = self.source.prefix, [*map(engine.keys.of, refs)]
            if found := census_of(engine.store, prefix, keys, self._heartbeat, self.clock.monotonic):
                self._tell_engine(census=found)
            for ref in refs:
                self.workers.queue.mark(ref, quiet_seconds=0.0, event=True, delete_allowed=True)

    def _is_sending(self) -> bool:
        """Return whether a file of the store is being sent, or a scan may still find one."""
        behind = self.workers.donors.behind(self.clock.monotonic(), but=self.source.name)
        return bool(behind) or not self.workers.queue.idle()

    def _are_in_the_way(self, gone: tuple[FileRef, ...]) -> bool:
        """Return whether one of them is in the way; the same files are looked at once."""
        if gone == self._harmless:
            return False
        if is_any_in_the_way(self.source.root, gone):
            return True
        self._harmless = gone
        return False

    def _root_is_right(self) -> bool:
        identity, doubt = self._guard.look()
        if doubt or identity is None:
            self._away(doubt)
            return False
        if self._guard.replaced:
            self._hold_deletions()
        self._tell_engine(root_identity=identity)
        if self._was_away or self._guard.replaced:
            log.info("%s: the source is back", self.source.name)
            self._watch.rewatch()
            self._was_away = False
        self.news.waiting_for = ""
        return True

    def _tell_engine(self, **changes: Any) -> None:
        """Replace what the engine knows of the source; a stopped runner leaves that to its successor."""
        sources = self.workers.engine.sources
        with self._changed:
            if not self._stopping:
                sources[self.source.name] = replace(sources[self.source.name], **changes)

    def _hold_deletions(self) -> None:
        """Hold all deletions until the operator confirms them: the root is another directory."""
        reason = "the root was replaced: its files are gone from there, but perhaps not for good"
        self._state.learn(self._store_id, _HELD + self.source.name, reason)
        with self._changed:
            self.deletions.held = reason

    def _away(self, doubt: str) -> None:
        known = self._state.root_identity(self.source.name)
        if known is not None:  # so that workers see that the root is another directory, and do nothing
            self._tell_engine(root_identity=known)
        with self._changed:
            self.deletions.clear()
            self.news.deletes_parked, self.news.deletes_reason = 0, ""
        self.workers.discard(self.source.name)
        self._was_away, self._taken_up = True, False  # `discard` dropped what was taken up
        if self.news.waiting_for != doubt:
            log.warning("%s: waiting: %s", self.source.name, doubt)
        self._set_back(doubt)

    def _set_back(self, reason: str) -> None:
        """Note that this round failed: the next ones come soon, then ever later."""
        self.news.waiting_for = reason
        with self._changed:
            self.deletions.scan_ended(reason)
            self.schedule.set_back(self.clock.monotonic())
        self.auditor.put_off()
        if self._once:
            self.first_scan_done.set()
            self.stop()

    def _note(self, subtree: str, reason: str, report: ScanReport, sink: ScanResults) -> None:
        news = self.news
        news.scans += 1
        if report.unseen or not subtree:
            with self._changed:
                self.deletions.scan_ended(report.unseen)
        if subtree or self._stopping:
            return
        news.errors = report.errors
        news.unreadable = sink.unreadable_paths
        news.out_of_sight, news.hidden = report.out_of_sight, sink.hidden_paths
        young = {"file younger than min_age": sink.young} if sink.young else {}
        news.skipped = {**report.skipped, **young}
        drift = sink.drift if reason == "interval" and not self._watch.coverage().reason else 0
        self._state.note_scan(self.source.name, self.clock.now_ns(), drift, report.unseen, news.skipped)
        if report.complete:
            self._none_went_under_keep()
            self._reconciliation.seen_whole()
            self._end_reconciliation(None)
        if drift:
            found = counted(drift, "file")
            log.info("%s: the scan found %s that no event had announced", self.source.name, found)
        files, errors = counted(report.files, "file"), counted(report.errors, "unreadable directory")
        seen = files, report.found, report.absent, errors
        words = "%s: scanned (%s): %s, %d to look at, %d gone, %s"
        log.info(words, self.source.name, reason, *seen)
        self.first_scan_done.set()

    def _end_reconciliation(self, done: FileRef | None) -> None:
        """End the reconciliation if no file of the source waits; `done` counts as finished.

        It goes on while a deletion waits, whose row may be older than the object.
        """
        if self._reconciliation.is_on and not self.deletions.waiting():
            waiting, processing = self.workers.queue.counts()
            name = self.source.name
            if not waiting.get(name) and not any(ref.source == name and ref != done for ref in processing):
                self._reconciliation.drained()


def deletions_held(source: Source, store_id: str, state: State) -> str:
    """Return why deletions of the source wait, as the state knows; empty: they do not. Raises StateError."""
    held = state.learned(store_id, _HELD + source.name)
    was_kept = state.learned(store_id, _POLICY + source.name) == OnDelete.KEEP.value
    turned = _TURNED if was_kept and source.on_delete is OnDelete.DELETE else ""
    return held or turned or waits_for_others(source, store_id, state)

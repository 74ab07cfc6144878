"""Log lines for people, programs or the journal. Repeated messages are throttled, secrets masked.

One handler on the root logger does all of it and writes to one stream (standard error). If the stream is the
journal, each line starts with its priority, ``<N>``, as sd-daemon(3) defines it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from msgspec import Struct

if TYPE_CHECKING:
    from syncd.config.load import LogSettings

_BURST = 20
"""Lines at level INFO that one cause may log a minute: enough to show each of a few uploads."""
_MOST_CAUSES = 1000
"""Causes that the throttle remembers at once."""
_TALKATIVE = {"urllib3": logging.DEBUG, "watchdog": logging.DEBUG, "botocore": logging.INFO}
"""The level from which they log with -vv. Below it, botocore logs the answers that bring keys."""
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_MOST_WAITING = 1000
"""Lines that wait for a stream that takes nothing. Later ones are lost, and counted."""
_PATIENCE_SECONDS = 1.0


def set_up(
    settings: LogSettings,
    *,
    verbosity: int,
    stream: TextIO,
    environ: Mapping[str, str] | None = None,
    waits: bool = True,
) -> None:
    """Send all log records to `stream`. A second call replaces the settings of the first.

    With ``format: auto`` the journal gets its own format, any other stream text. `verbosity` is the number
    of ``-v``, or minus the number of ``-q``; each moves the level by one. From 2 on, libraries log as well.
    Without `waits` the caller goes on if the stream takes nothing: a pipe that no program reads, or a file on
    a file system that does not answer.
    """
    formatter = _format(settings.format, stream, os.environ if environ is None else environ)
    out: TextIO | _Writer = stream
    if not waits:
        with contextlib.suppress(OSError, ValueError):  # io.UnsupportedOperation is both: no descriptor
            out = _Writer(stream.fileno())
    handler = _Lines(out, formatter)
    handler.addFilter(Throttle(say=handler.say))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Lines)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()] - 10 * verbosity
    root.setLevel(min(max(level, logging.DEBUG), logging.CRITICAL))
    for name, most in _TALKATIVE.items():
        logging.getLogger(name).setLevel(most if verbosity >= 2 else logging.WARNING)


def report_suppressed() -> None:
    """Log how many lines were suppressed for each cause whose minute is over. Call this now and then."""
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Throttle):
                one.report_suppressed()


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether `stream` is the journal: ``$JOURNAL_STREAM`` has the device and inode of its socket."""
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return False
    return environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and line feed, which tracebacks need."""


def _masked(text: str) -> str:
    """Return the text without secrets. If the module of secrets is not loaded there are none: most commands
    do not need it.
    """
    takes = sys.modules.get("syncd.storage.http.credentials")
    return str(takes.hidden.mask(text)) if takes is not None else text


# ---- repeated messages ------------------------------------------------------------------------------------


class _Cause(Struct):
    until: float
    passed: int = 1
    suppressed: int = 0
    last: logging.LogRecord | None = None


class Throttle(logging.Filter):
    """Passes the first line of a cause (at level INFO the first twenty), suppresses the others for `seconds`,
    then reports how many there were.

    Lines have the same cause if logger, level and the record's ``cause`` attribute (by default the template
    of the message) are equal. DEBUG is never throttled. `say` receives the lines with the numbers.
    """

    def __init__(
        self,
        *,
        say: Callable[[logging.LogRecord], None],
        seconds: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._say = say
        self._seconds = seconds
        self._now = now
        self._lock = threading.Lock()
        self._causes: dict[tuple[str, int, str], _Cause] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        cause = (record.name, record.levelno, str(getattr(record, "cause", record.msg)))
        self.report_suppressed()
        with self._lock:
            known = self._causes.get(cause)
            if known is None:
                self._causes[cause] = _Cause(until=self._now() + self._seconds)
                return True
            if record.levelno <= logging.INFO and known.passed < _BURST:
                known.passed += 1
                return True
            known.suppressed += 1
            known.last = record
            return False

    def report_suppressed(self, *, at_end: bool = False) -> None:
        """Report each cause that had lines suppressed and whose time is over, or each `at_end`."""
        now = math.inf if at_end else self._now()
        with self._lock:
            over = [cause for cause, known in self._causes.items() if known.until <= now]
            # The dict is ordered by age: beyond the bound, the oldest causes end early.
            over += [cause for cause in self._causes if cause not in over][
                : max(0, len(self._causes) - _MOST_CAUSES)
            ]
            ended = [self._causes.pop(cause) for cause in over]
        for known in ended:
            if known.last is not None:
                self._say(self._summary(known.suppressed, known.last))

    def _summary(self, count: int, last: logging.LogRecord) -> logging.LogRecord:
        more = f"{count} more like this suppressed since, the last: {last.getMessage()}"
        summary = logging.makeLogRecord({**vars(last), "msg": more, "args": None})
        summary.exc_info = summary.exc_text = summary.stack_info = None
        return summary


# ---- how a line looks -------------------------------------------------------------------------------------


class _Lines(logging.StreamHandler["TextIO | _Writer"]):
    """Writes records to a stream and masks secrets in what the formatter made."""

    def __init__(self, stream: TextIO | _Writer, formatter: logging.Formatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)

    def close(self) -> None:
        for one in self.filters:
            if isinstance(one, Throttle) and not getattr(self.stream, "closed", False):
                one.report_suppressed(at_end=True)
        if isinstance(self.stream, _Writer):
            self.stream.close()
        super().close()

    def format(self, record: logging.LogRecord) -> str:
        text = self._formatted(record)
        lost = self.stream.lost() if isinstance(self.stream, _Writer) else 0
        if not lost:
            return text
        words = "%d lines were lost: the log was blocked"
        told = logging.LogRecord("syncd.log", logging.WARNING, __file__, 0, words, (lost,), None)
        return f"{self._formatted(told)}{self.terminator}{text}"

    def _formatted(self, record: logging.LogRecord) -> str:
        # File names may hold bytes that are not text; foreign text may hold control codes.
        text = super().format(record).encode("utf-8", "backslashreplace").decode()
        return _masked(_CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text))

    def say(self, record: logging.LogRecord) -> None:
        """Emit without passing the filters."""
        with self.lock or contextlib.nullcontext():
            self.emit(record)


class _Writer:
    """Writes to a descriptor in its own thread. A caller goes on when its line is written, or when the
    descriptor has taken nothing for `_PATIENCE_SECONDS`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        """The first one is being written."""
        self._lost = 0
        self._is_stuck = self._closed = False
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Write some lines; count them as lost if too many wait."""
        with self._changed:
            if self._closed or len(self._waiting) >= _MOST_WAITING:
                self._lost += 1
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._waiting.append(text.encode("utf-8", "backslashreplace"))
            self._changed.notify_all()
            if not self._is_stuck:
                is_out = self._changed.wait_for(lambda: not self._waiting, _PATIENCE_SECONDS)
                self._is_stuck = not is_out

    def flush(self) -> None:
        """Do nothing, for the interface of a stream: nothing is kept back."""

    def lost(self) -> int:
        """Return how many lines were lost and reset the count, once there is room again; 0 before that."""
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                return 0
            lost, self._lost = self._lost, 0
            return lost

    def close(self) -> None:
        """Take no more lines; those that wait are still written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                line = memoryview(self._waiting[0])
            with contextlib.suppress(OSError):  # a log that is gone must not stop the daemon
                while line:
                    line = line[os.write(self._descriptor, line) :]
            with self._changed:
                self._waiting.popleft()
                self._is_stuck = self._is_stuck and bool(self._waiting)
                self._changed.notify_all()


class _Text(logging.Formatter):
    """``2026-01-31T12:00:00+0100 WARNING syncd.scan: message``"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")


class _Journal(logging.Formatter):
    """Each line with its priority. The journal itself adds time, process and unit."""

    _PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        # The journal makes each line an entry, which needs a priority. Names may hold line breaks.
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)


class _Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields given as ``extra``, exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _format(wanted: str, stream: TextIO, environ: Mapping[str, str]) -> logging.Formatter:
    if wanted == "json":
        return _Json()
    if wanted == "auto" and is_journal(stream, environ):
        return _Journal()
    return _Text()

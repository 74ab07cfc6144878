"""Log lines: for people, for machines, for the journal; not the same cause again and again; never a secret.

One handler on the root logger does all three. What is said goes to one stream (standard error); where that
is the journal, each line carries its priority as ``<N>``, the prefix that sd-daemon(3) defines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

if TYPE_CHECKING:
    from syncd.config.load import LogSettings
    from syncd.storage.settings import KeySettings

MASK = "[secret]"
_SHORTEST_SECRET = 6
"""Shorter values are not hidden: they would blacken ordinary text, and are no secrets to speak of."""
_BURST = 20
"""Lines at level INFO that a cause may have in one go: an upload is worth a line, fifty thousand are not."""
_MOST_CAUSES = 1000
"""Causes that the throttle remembers at once."""
_TALKATIVE = ("urllib3", "watchdog", "botocore")
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(
    settings: LogSettings, *, verbosity: int, stream: TextIO, environ: Mapping[str, str] | None = None
) -> None:
    """Send everything that is logged to `stream`, in the format that suits it; safe to call again.

    ``format`` auto is the journal's where `stream` is the journal, else text. `verbosity` counts ``-v``
    (more) and ``-q`` (less, negative) from the configured level; at 2 the libraries may speak, too.
    """
    handler = _Lines(stream, _format(settings.format, stream, os.environ if environ is None else environ))
    handler.addFilter(Throttle(say=handler.say))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Lines)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()] - 10 * verbosity
    root.setLevel(min(max(level, logging.DEBUG), logging.CRITICAL))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.DEBUG if verbosity >= 2 else logging.WARNING)


def tell_held_back() -> None:
    """Say how many lines were held back, for causes whose minute is over; to be called now and then."""
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Throttle):
                one.tell_held_back()


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is the connection to the journal that ``$JOURNAL_STREAM`` (device:inode) describes."""
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return False
    return environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"


# ---- secrets ----------------------------------------------------------------------------------------------


class _Secrets:
    """The values that no line may show, in every spelling that our formats and URLs give them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spellings: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        if len(value) < _SHORTEST_SECRET:
            return
        spellings = {value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
        with self._lock:
            if not spellings <= self._spellings:
                self._spellings |= spellings
                longest_first = sorted(self._spellings, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str) -> str:
        pattern = self._pattern
        return pattern.sub(MASK, text) if pattern else text


_secrets = _Secrets()


def hide(*values: str) -> None:
    """From now on, show ``[secret]`` wherever one of `values` would stand in a line or a traceback."""
    for value in values:
        _secrets.add(value)


def hide_keys(keys: KeySettings) -> None:
    """`hide` the secrets of an account, given or in files. A file that cannot be read is not our business."""
    hide(keys.secret_access_key, keys.session_token)
    for path in filter(None, (keys.secret_key_file, keys.session_token_file)):
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
            hide(file.read().strip())


# ---- the same again ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cause:
    until: float
    passed: int = 1
    held: int = 0
    last: logging.LogRecord | None = None


class Throttle(logging.Filter):
    """Lets one line of a cause through, holds the others of the next `seconds`, then tells their number. Of
    what is merely told (INFO) the first twenty go through.

    The cause is the record's ``cause`` attribute where it has one, else the template of the message; with it
    count the logger and the level. Debugging is never throttled: who asks for everything gets everything.
    `say` receives the lines that tell.
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
        self.tell_held_back()
        with self._lock:
            known = self._causes.get(cause)
            if known is None:
                self._causes[cause] = _Cause(until=self._now() + self._seconds)
                return True
            if record.levelno <= logging.INFO and known.passed < _BURST:
                known.passed += 1
                return True
            known.held += 1
            known.last = record
            return False

    def tell_held_back(self) -> None:
        """Say one line for each cause whose time is over and that had more than its one line."""
        now = self._now()
        with self._lock:
            over = [cause for cause, known in self._causes.items() if known.until <= now]
            # Insertion order is the order of age: beyond the bound, the oldest end early.
            over += [cause for cause in self._causes if cause not in over][
                : max(0, len(self._causes) - _MOST_CAUSES)
            ]
            ended = [self._causes.pop(cause) for cause in over]
        for known in ended:
            if known.last is not None:
                self._say(self._told(known.held, known.last))

    def _told(self, held: int, last: logging.LogRecord) -> logging.LogRecord:
        more = f"{held} more like this held back in {self._seconds:.0f} s, the last: {last.getMessage()}"
        told = logging.makeLogRecord({**vars(last), "msg": more, "args": None})
        told.exc_info = told.exc_text = told.stack_info = None
        return told


# ---- how a line looks -------------------------------------------------------------------------------------


class _Lines(logging.StreamHandler[TextIO]):
    """Writes records to a stream, masked whatever the formatter made of them."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)

    def format(self, record: logging.LogRecord) -> str:
        # Names may hold bytes that are not text; a log line must never fail for that.
        text = super().format(record).encode("utf-8", "backslashreplace").decode()
        return _secrets.mask(text)

    def say(self, record: logging.LogRecord) -> None:
        """Emit past the filters."""
        with self.lock or contextlib.nullcontext():
            self.emit(record)


class _Text(logging.Formatter):
    """``2026-01-31T12:00:00+0100 WARNING syncd.scan: message``"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")


class _Journal(logging.Formatter):
    """Every line with its priority; time, process and unit are the journal's own affair."""

    _PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        # A line break makes a new entry there, which needs a priority of its own (a name may hold one, too).
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)


class _Json(logging.Formatter):
    """One object a line: time, level, logger, message, what the record was given as ``extra``, exception."""

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

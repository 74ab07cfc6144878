"""What reaches a reader of the log: format, priority, one line a cause, and no secret."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from syncd.daemon import logs
from syncd.daemon.logs import Throttle, is_journal, report_suppressed, set_up
from syncd.storage.http import credentials
from syncd.storage.http.credentials import MASK, Hidden

log = logging.getLogger("syncd.tests")


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    """`set_up` changes the process's root logger; each test leaves it as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_secrets_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "hidden", Hidden())


def settings(level: str = "info", format: str = "auto") -> Any:
    return SimpleNamespace(level=level, format=format)


def written(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def throttled(stream: TextIO, clock: Clock) -> logging.Logger:
    """A logger of its own behind a throttle that runs on `clock`."""
    handler = logs._Lines(stream, logging.Formatter("%(levelname)s %(message)s"))
    handler.addFilter(Throttle(say=handler.say, seconds=60.0, now=clock))
    logger = logging.Logger("syncd.throttled", logging.DEBUG)  # noqa: LOG001  (not shared between tests)
    logger.addHandler(handler)
    return logger


def test_text_says_when_how_bad_who_and_what() -> None:
    """A line for people has time with zone, level, logger and message."""
    stream = io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=stream)
    log.warning("store %s is slow", "nas")
    when, level, rest = written(stream)[0].split(" ", 2)
    assert (level, rest) == ("WARNING", "syncd.tests: store nas is slow")
    assert len(when) == len("2026-01-31T12:00:00+0100")


def test_json_is_one_object_a_line_with_extra_fields() -> None:
    """Everything that a record was given as extra is a field; line breaks stay inside the object."""
    stream = io.StringIO()
    set_up(settings(format="json"), verbosity=0, stream=stream)
    log.error("cannot read %s", "a\nb", extra={"source": "camera", "attempts": 3})
    fields = json.loads(written(stream)[0])
    del fields["time"]
    assert fields == {
        "level": "error",
        "logger": "syncd.tests",
        "message": "cannot read a\nb",
        "source": "camera",
        "attempts": 3,
    }


def test_json_carries_the_traceback() -> None:
    """An exception is a field of its own."""
    stream = io.StringIO()
    set_up(settings(format="json"), verbosity=0, stream=stream)
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("failed")
    assert "ValueError: boom" in json.loads(written(stream)[0])["exception"]


def test_journal_prefixes_every_line_with_its_priority(tmp_path: Path) -> None:
    """Where the stream is the one of JOURNAL_STREAM, each line has the syslog priority of its level."""
    with open(tmp_path / "journal", "w+", encoding="utf-8") as stream:
        seen = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}
        set_up(settings(level="debug"), verbosity=0, stream=stream, environ=environ)
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e\n<0>forged")
        log.critical("c")
        stream.seek(0)
        assert stream.read().splitlines() == ["<7>d", "<6>i", "<4>w", "<3>e", "<3><0>forged", "<2>c"]


def test_inherited_journal_variable_does_not_make_a_terminal_the_journal(tmp_path: Path) -> None:
    """JOURNAL_STREAM counts only if it describes this very stream, which may be redirected."""
    with open(tmp_path / "log", "w", encoding="utf-8") as stream:
        assert is_journal(stream, {"JOURNAL_STREAM": "1:2"}) is False
    assert is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"}) is False
    assert is_journal(io.StringIO(), {}) is False


@pytest.mark.parametrize(
    ("level", "verbosity", "seen"),
    [
        ("info", 0, ["info", "warning", "error"]),
        ("info", 1, ["debug", "info", "warning", "error"]),
        ("info", -1, ["warning", "error"]),
        ("error", 0, ["error"]),
        ("debug", 3, ["debug", "info", "warning", "error"]),
        ("error", -5, []),
    ],
)
def test_verbosity_moves_the_level(level: str, verbosity: int, seen: list[str]) -> None:
    """Each -v or -q moves the configured level by one step, within the scale."""
    stream = io.StringIO()
    set_up(settings(level=level, format="json"), verbosity=verbosity, stream=stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(name)
    assert [json.loads(line)["level"] for line in written(stream)] == seen


def test_set_up_again_replaces_and_does_not_double() -> None:
    """A reload with another log section gives each line once, in the new format."""
    first, second = io.StringIO(), io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=first)
    set_up(settings(format="json"), verbosity=0, stream=second)
    log.info("once")
    assert (written(first), len(written(second))) == ([], 1)


def test_libraries_are_silent_below_warning() -> None:
    """-v shows our debugging, not that of the HTTP and inotify libraries."""
    stream = io.StringIO()
    set_up(settings(format="json"), verbosity=1, stream=stream)
    logging.getLogger("urllib3.connectionpool").debug("GET /")
    logging.getLogger("watchdog.observers").info("event")
    assert written(stream) == []


def test_name_that_is_no_text_is_still_logged() -> None:
    """Bytes that are not UTF-8 in a file name are escaped instead of breaking the log."""
    stream = io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=stream)
    log.info("uploaded %s", os.fsdecode(b"a\xff"))
    assert written(stream)[0].endswith("uploaded a\\udcff")


def test_nothing_that_a_terminal_obeys_is_written() -> None:
    """Whatever line it stands in; line feeds and tabs stay, for tracebacks."""
    stream = io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=stream)
    log.info("said %s", "\x1b]0;owned\x07\x9b31m\rover\ttab")
    assert written(stream)[0].endswith("said \\x1b]0;owned\\x07\\x9b31m\\x0dover\ttab")


@pytest.mark.parametrize("format", ["text", "json"])
def test_secret_is_masked_wherever_it_stands(format: str) -> None:
    """Message, arguments, extra fields, URLs and tracebacks never show a hidden value."""
    secret = 'wJal/rXU+tn"FEMI'
    credentials.hidden.add(secret)
    stream = io.StringIO()
    set_up(settings(format=format), verbosity=0, stream=stream)
    try:
        raise ValueError(f"key {secret} is wrong")
    except ValueError:
        log.exception("with %s", {"key": secret}, extra={"header": secret, "cause": "x"})
    log.info("http://h/?sig=wJal%2FrXU%2Btn%22FEMI and " + secret)  # noqa: G003
    assert stream.getvalue().count(MASK) >= 4
    for fragment in ("wJal", "FEMI"):
        assert fragment not in stream.getvalue()


def test_short_values_do_not_blacken_the_log() -> None:
    """Empty and very short values are not hidden: they would mask ordinary words."""
    credentials.hidden.add("", "a", "12345")
    stream = io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=stream)
    log.info("banana 12345")
    assert written(stream)[0].endswith("banana 12345")


@pytest.mark.parametrize(("library", "level"), [("urllib3", logging.DEBUG), ("botocore", logging.INFO)])
def test_what_libraries_are_answered_is_never_written(library: str, level: int) -> None:
    """botocore logs the whole answers of services that give keys, before anything could hide those."""
    set_up(settings(format="text"), verbosity=2, stream=io.StringIO())
    assert logging.getLogger(f"{library}.parsers").getEffectiveLevel() == level


def test_same_cause_is_said_once_a_minute_and_then_counted() -> None:
    """The first line goes out at once, the others of the minute become one line with their number."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    for number in range(5):
        clock.seconds = number * 10.0
        logger.error("cannot reach %s", f"host{number}")
    assert written(stream) == ["ERROR cannot reach host0"]
    clock.seconds = 60.0
    logger.error("cannot reach %s", "host5")
    assert written(stream)[1:] == [
        "ERROR 4 more like this suppressed since, the last: cannot reach host4",
        "ERROR cannot reach host5",
    ]


def test_cause_attribute_decides_what_is_the_same() -> None:
    """Records with the same `cause` are one, whatever they say; with different causes they are two."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    logger.error("first words", extra={"cause": "nas"})
    logger.error("other words", extra={"cause": "nas"})
    logger.error("first words", extra={"cause": "bos"})
    assert written(stream) == ["ERROR first words", "ERROR first words"]


def test_levels_are_throttled_apart_and_debugging_never() -> None:
    """A warning does not silence the error with the same words, and nothing silences debugging."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    logger.warning("w")
    logger.error("w")
    logger.debug("d")
    logger.debug("d")
    assert written(stream) == ["WARNING w", "ERROR w", "DEBUG d", "DEBUG d"]


def test_held_lines_are_told_although_the_cause_is_over() -> None:
    """When the minute has passed, the count comes out with the next record of anybody, or when asked for."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    logger.error("a")
    logger.error("a")
    clock.seconds = 61.0
    logger.warning("something else")
    assert written(stream)[1] == "ERROR 1 more like this suppressed since, the last: a"
    logger.warning("something else")
    clock.seconds = 122.0
    for one in logger.handlers[0].filters:
        assert isinstance(one, Throttle)
        one.report_suppressed()
    assert written(stream)[-1] == "WARNING 1 more like this suppressed since, the last: something else"


def test_each_of_a_few_uploads_has_its_line_and_each_of_many_has_not() -> None:
    """What is merely told may be told twenty times a minute; then it is counted, and said how often."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    for number in range(20):
        logger.info("%s: uploaded", number)
    assert written(stream) == [f"INFO {number}: uploaded" for number in range(20)]
    for number in range(20, 50_000):
        logger.info("%s: uploaded", number)
    assert len(written(stream)) == 20
    clock.seconds = 61.0
    logger.info("%s: uploaded", "another")
    assert written(stream)[20:] == [
        "INFO 49980 more like this suppressed since, the last: 49999: uploaded",
        "INFO another: uploaded",
    ]


def test_cause_that_happened_once_is_not_told_again() -> None:
    """Nothing held back, nothing to tell."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    logger.error("a")
    clock.seconds = 100.0
    logger.error("b")
    assert written(stream) == ["ERROR a", "ERROR b"]


def test_throttle_forgets_the_oldest_causes_beyond_its_bound() -> None:
    """Thousands of causes do not make it grow without end, and what was held is told when forgotten."""
    stream, clock = io.StringIO(), Clock()
    logger = throttled(stream, clock)
    logger.error("x", extra={"cause": "first"})
    logger.error("x again", extra={"cause": "first"})
    for number in range(logs._MOST_CAUSES + 5):
        logger.error("y", extra={"cause": f"cause {number}"})
    (throttle,) = logger.handlers[0].filters
    assert isinstance(throttle, Throttle)
    assert len(throttle._causes) == logs._MOST_CAUSES + 1
    assert "ERROR 1 more like this suppressed since, the last: x again" in written(stream)


def test_burst_through_the_installed_handler_stays_small() -> None:
    """A burst of 50,000 failures of one kind is a handful of lines through the service's own handler."""
    stream = io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=stream)
    for number in range(50_000):
        log.error("cannot read %s", number)
    report_suppressed()
    assert len(written(stream)) < 10


def test_what_was_suppressed_is_told_at_the_end() -> None:
    """Of a single pass, or of a daemon that stops within the minute."""
    stream = io.StringIO()
    set_up(settings(format="text"), verbosity=0, stream=stream)
    for number in range(3):
        log.error("cannot read %s", number)
    set_up(settings(format="text"), verbosity=0, stream=io.StringIO())  # closes the handler of before
    assert written(stream)[-1].endswith("2 more like this suppressed since, the last: cannot read 2")


# ---- a stream that takes nothing --------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """A pipe that holds a page: its reading end, and its writing end."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with open(read, encoding="utf-8") as reading, open(write, "w", encoding="utf-8") as writing:
        yield reading, writing


def test_a_line_is_out_before_its_thread_goes_on(pipe: tuple[TextIO, TextIO]) -> None:
    """What a program says before it dies is there."""
    reading, writing = pipe
    set_up(settings(format="text"), verbosity=0, stream=writing, waits=False)
    for number in range(20):
        log.info("line %d", number, extra={"cause": number})
        assert select.select([reading], [], [], 0)[0]
        assert reading.readline().endswith(f"line {number}\n")


def test_nobody_waits_for_a_log_that_takes_nothing(
    pipe: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that is not read: lines that it cannot take are counted, and the count is logged afterwards."""
    monkeypatch.setattr(logs, "_PATIENCE_SECONDS", 0.01)
    reading, writing = pipe
    set_up(settings(format="text"), verbosity=0, stream=writing, waits=False)
    for number in range(3000):
        log.info("line %d", number, extra={"cause": number})
    told: list[str] = []
    while sum(": line " in line for line in told) < logs._MOST_WAITING:
        told.append(reading.readline())
    log.info("the end")
    while "the end" not in told[-1]:
        told.append(reading.readline())
    lost = next(int(line.split()[3]) for line in told if "lines were lost" in line)
    kept = [line for line in told if ": line " in line]
    assert len(kept) + lost == 3000
    assert [int(line.split()[-1]) for line in kept] == list(range(len(kept)))

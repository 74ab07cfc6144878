"""A log that never rests, through all that happens to logs and to daemons, on the strict BOS server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.process import Syncd, bos_store, wait_until
from tests.support.bos_server import BosServer
from tests.support.fault_proxy import FaultProxy
from tests.support.shelves import BosShelf

PART = 5 << 20
LINE = re.compile(rb"line (\d{9}) x{999}\n")
WRITER = """
import signal, sys, time
asked = [True]
signal.signal(signal.SIGHUP, lambda *_: asked.append(True))
for number in range(10**9):
    if asked:
        file = open(sys.argv[1], "ab", buffering=0)
        asked.clear()
    file.write(b"line %09d " % number)
    file.write(b"x" * 999 + b"\\n")
    if number > 13_000 and number % 20 == 0:
        time.sleep(0.02)
"""


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes 13 MB of lines, and then 1 MB each second, each line in two halves."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path]) as writer:
        try:
            yield writer
        finally:
            writer.kill()


def check(content: bytes | None, *, first_is_whole: bool = True) -> int:
    """The number of the first line in an object; -1: none. Its lines are whole, and follow each other."""
    if content is None:
        return -1
    start = 0 if first_is_whole else content.index(b"\n") + 1
    numbers = [int(found) for found in LINE.findall(content, start)]
    assert len(numbers) * len(b"line 000000000 \n" + b"x" * 999) == len(content) - start
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return numbers[0]


def test_a_log_that_never_rests(bos_server: BosServer, tmp_path: Path) -> None:
    """Carried, killed, renamed, copied and emptied: each object is whole lines that were written one after
    the other, in the end each file is its object, and what was sent is not sent again.
    """
    bos_server.disk.create("growing")
    shelf, log = BosShelf(bos_server, "growing"), tmp_path / "folder" / "app.log"
    log.parent.mkdir()
    with FaultProxy(("127.0.0.1", bos_server.port), stall_seconds=60) as proxy:
        store = bos_store(bos_server, "growing", proxy.port)
        source = {"name": "logs", "path": "./folder", "store": "there", "settle": "300ms"}
        grows = {"mode": "append", "append": ["*.log"], "append_interval": "1s"}
        syncd = Syncd(
            tmp_path, {"there": store}, [source | grows], transfer={"part_size": "5MiB", "concurrency": 1}
        )
        with writing(log) as writer:
            wait_until("there is something to send", lambda: log.exists() and log.stat().st_size > 2.5 * PART)
            proxy.freeze_after(int(1.5 * PART))
            syncd.start()
            assert proxy.wait_stalled(60), syncd.log_text()
            syncd.kill()
            proxy.thaw()
            syncd.start()
            wait_until("it is there", lambda: check(shelf.fetch("app.log")) == 0)
            before = len(shelf.fetch("app.log") or b"")
            wait_until("it grows", lambda: len(shelf.fetch("app.log") or b"") > before)
            assert check(shelf.fetch("app.log")) == 0

            log.rename(f"{log}.1")
            writer.send_signal(signal.SIGHUP)
            wait_until("its new name is there", lambda: check(shelf.fetch("app.log.1")) == 0)
            wait_until("the next is there", lambda: check(shelf.fetch("app.log")) > 0)

            Path(f"{log}.2").write_bytes(log.read_bytes())
            os.truncate(log, 0)
            renewed = check(shelf.fetch("app.log"))
            wait_until(
                "it begins again", lambda: check(shelf.fetch("app.log"), first_is_whole=False) > renewed + 1
            )
        totals = syncd.wait_idle()["totals"]
        for path in log.parent.iterdir():
            assert shelf.fetch(path.name) == path.read_bytes()
        assert shelf.unfinished() == []
        # An upload that went on, a log that grew, and one that was found under its new name.
        assert all(totals["by_cause"][cause]["bytes_saved"] > 0 for cause in ("resume", "append", "delta"))
        assert syncd.stop() == 0

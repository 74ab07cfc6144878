"""One large file over a slow line, with a stop each minute: how much of it is sent twice?

    python -m tests.torture.slow_line                               # 1 GiB over 1 MiB/s: 18 minutes
    python -m tests.torture.slow_line --size 256MiB --rate 4MiB --every 15

The daemon sends to the BOS server of the tests through a proxy that carries so many bytes each second, and is
asked to stop (`--kill`: killed) and started again. Fails where more than one part is sent twice for each.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from syncd.config.units import parse_size
from tests.e2e.process import Syncd, bos_store
from tests.support.bos_server import BosServer
from tests.support.fault_proxy import FaultProxy
from tests.support.shelves import BosShelf

_BLOCK = 1 << 20


def main() -> int:
    """Run it, print what was sent, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=1 << 30)
    parser.add_argument("--rate", type=parse_size, default=1 << 20, help="bytes per second")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two stops")
    parser.add_argument("--part", default="8MiB", help="part_size")
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncd-slow-line-") as place:
        return run(Path(place), asked)


def run(root: Path, asked: argparse.Namespace) -> int:
    """Carry one file, below `root`."""
    (root / "folder").mkdir()
    with (root / "folder" / "big").open("wb") as file:
        for begin in range(0, asked.size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, asked.size - begin)))
    source = {"name": "big", "path": "./folder", "store": "there", "settle": "100ms"}
    with (
        BosServer(root / "bos") as server,
        FaultProxy(("127.0.0.1", server.port), bytes_per_second=asked.rate) as proxy,
    ):
        store = bos_store(server, "photos", proxy.port)
        syncd = Syncd(root, {"there": store}, [source], transfer={"part_size": asked.part})
        shelf, stops = BosShelf(server, "photos"), 0
        began = time.monotonic()
        try:
            while not shelf.versions():
                syncd.start(wait=False)
                stop_at = time.monotonic() + asked.every
                while time.monotonic() < stop_at and not shelf.versions():
                    assert syncd.process is not None
                    assert syncd.process.poll() is None, syncd.log_text()
                    time.sleep(0.2)
                if not shelf.versions():
                    syncd.kill() if asked.kill else syncd.stop()
                    stops += 1
        finally:
            syncd.close()
        took = time.monotonic() - began
        whole = shelf.fetch("big") == (root / "folder" / "big").read_bytes()
        again = (proxy.ledger.bytes.forwarded - asked.size) / parse_size(asked.part)
    print(
        f"{asked.size >> 20} MiB in {took:.0f} s with {stops} stops: the object is "
        f"{'whole' if whole else 'WRONG'}; {again:.2f} parts were sent again"
    )
    return 0 if whole and again <= stops else 1


if __name__ == "__main__":
    sys.exit(main())

"""What memory the daemon keeps after a day-like load, with everything on: prints one JSON object.

    python -m bench.day [--small 5000] [--rest 75]

In a temporary place it starts `syncd run` with an address and a token, sends small files, photos and films to
the sink, changes, renames and deletes some of them, while a monitoring program scrapes and a person looks at
the page, and lets all of it rest. Resident memory is read before, at the end of the work, and after the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.awake import ask, make_files
from bench.awake import store as sink_store
from bench.idle import daemon, memory

PORT = 8739
TOKEN = "0123456789abcdef"
MIB = 1 << 20
CONFIG = """\
state_dir: ./state
stores: {{bench: {store}}}
sources: [{{name: bench, path: ./watched, store: bench, prefix: bench/, settle: 1s, attributes: posix}}]
http: {{address: "127.0.0.1:{port}", token_file: ./token}}
log: {{level: warning}}
"""


def look() -> None:
    """Once what monitoring programs and browsers ask every few seconds."""
    for path in ("/metrics", "/readyz", "/", "/api/v1/status", "/api/v1/pending"):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


def settle(root: Path) -> int:
    """Look until nothing waits; the number of recorded files."""
    while True:
        look()
        files = ask(root / "state", "status")[1]["sources"][0]["files"]
        if not files["pending"] + files["in_flight"]:
            return int(files["recorded"])
        time.sleep(2)


def work(root: Path, small: int) -> None:
    """One day: much that is small, some of it large, some of it changed, moved and deleted."""
    watched = root / "watched"
    for number in range(20):
        (watched / f"photo{number}").write_bytes(os.urandom(6 * MIB))
    for number in range(2):
        (watched / f"film{number}").write_bytes(os.urandom(200 * MIB))
    time.sleep(3)
    settle(root)
    for number in range(0, small, 10):
        path = watched / f"d{number // 1000}" / f"f{number % 1000}"
        if number % 30 == 0:
            path.unlink()
        elif number % 20 == 0:
            path.rename(path.with_suffix(".moved"))
        else:
            path.write_bytes(b"changed" * 700)
    with (watched / "film0").open("r+b") as film:
        film.seek(50 * MIB)
        film.write(os.urandom(MIB))
    time.sleep(3)
    settle(root)


def measure(small: int, rest: float) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as directory:
        root = Path(directory)
        (root / "watched").mkdir()
        (root / "token").write_text(TOKEN)
        (root / "token").chmod(0o600)
        with sink_store("sink", root, 0.0) as entry:
            (root / "config.yaml").write_text(CONFIG.format(store=entry, port=PORT))
            with daemon(root) as (pid, _):
                fresh = memory(pid)
                make_files(root / "watched", small)
                time.sleep(3)
                files = settle(root)
                small_done = memory(pid)
                work(root, small)
                busy = memory(pid)
                time.sleep(rest)
                rested = memory(pid)
                look()
                return {
                    "files": files,
                    "fresh": fresh,
                    "after_small_files": small_done,
                    "at_the_end_of_work": busy,
                    "rest_seconds": rest,
                    "after_rest": rested,
                    "after_a_look": memory(pid),
                }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, default=5_000)
    parser.add_argument("--rest", type=float, default=75.0, help="seconds")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.small, arguments.rest), indent=1))


if __name__ == "__main__":
    main()

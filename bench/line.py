"""How exactly a bandwidth limit holds that three stores share: prints one JSON object.

    python -m bench.line [--rate 4] [--seconds 30]

In a temporary place it starts `syncd run` with three sources, each with a sink of its own for its store,
gives each some large files, and reads every tenth of a second what the sinks have received. Then it halves
the limit by `limit`, and reads again. Of each span of ten seconds it tells what came as a share of what was
allowed, and of all bytes the share of each store.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.idle import daemon
from bench.servers import Sink
from syncd.daemon import control

MIB = 1 << 20
STORES = ("one", "two", "three")
SPAN_SECONDS = 10.0
_EVERY_SECONDS = 0.1


def configuration(sinks: dict[str, Sink], rate: int) -> str:
    """One source for each store."""
    text = f"state_dir: ./state\ntransfer: {{bandwidth_limit: {rate}B}}\nlog: {{level: warning}}\nstores:\n"
    for name, sink in sinks.items():
        keys = f"access_key_id: {sink.access_key}, secret_access_key: {sink.secret_key}"
        where = f"endpoint: http://127.0.0.1:{sink.port}, region: us-east-1, bucket: bench, path_style: true"
        text += f"  {name}: {{type: s3, {where}, {keys}}}\n"
    sources = (f"{{name: {name}, path: ./{name}, store: {name}, settle: 100ms}}" for name in sinks)
    return f"{text}sources: [{', '.join(sources)}]\n"


def watch(sinks: dict[str, Sink], seconds: float) -> list[tuple[float, tuple[int, ...]]]:
    """From the first byte on: the moment, and what each sink has received since."""
    before = [sink.counted()[1] for sink in sinks.values()]
    seen: list[tuple[float, tuple[int, ...]]] = []
    while not seen or seen[-1][0] - seen[0][0] < seconds:
        now = tuple(sink.counted()[1] - was for sink, was in zip(sinks.values(), before, strict=True))
        if any(now):
            seen.append((time.monotonic(), now))
        time.sleep(_EVERY_SECONDS)
    return seen


def spans(seen: list[tuple[float, tuple[int, ...]]], rate: float) -> dict[str, Any]:
    """Of all spans of ten seconds: the least and the most that came, as a share of what was allowed."""
    shares = []
    for at, (began, before) in enumerate(seen):
        later = next(((then, after) for then, after in seen[at:] if then - began >= SPAN_SECONDS), None)
        if later is not None:
            shares.append((sum(later[1]) - sum(before)) / (rate * (later[0] - began)))
    total = sum(seen[-1][1]) - sum(seen[0][1])
    each = (round((last - first) / total, 3) for first, last in zip(seen[0][1], seen[-1][1], strict=True))
    return {
        "spans": len(shares),
        "first": round(shares[0], 4),
        "least": round(min(shares), 4),
        "most": round(max(shares), 4),
        "of_each_store": list(each),
    }


def measure(rate: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as directory, ExitStack() as last:
        root = Path(directory)
        sinks = {}
        for name in STORES:
            (root / name).mkdir()
            sinks[name] = Sink(root)
            last.callback(sinks[name].stop)
        (root / "config.yaml").write_text(configuration(sinks, rate))
        with daemon(root):
            for name in STORES:
                for number in range(4):
                    (root / name / f"film{number}").write_bytes(os.urandom(64 * MIB))
            first = spans(watch(sinks, seconds), rate)
            control.ask(str(root / "state"), {"command": "limit", "rate": f"{rate // 2}B"})
            time.sleep(1)
            return {
                "bytes_per_second": rate,
                "as_configured": first,
                "halved": spans(watch(sinks, seconds), rate / 2),
            }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=4, help="MiB a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the two limits")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rate * MIB, arguments.seconds), indent=1))


if __name__ == "__main__":
    main()

"""Replay seeds: ``python -m tests.torture.simulation SEED [END]``; with END all seeds from SEED up to it."""

from __future__ import annotations

import sys

from tests.torture.simulation.play import play, script_of, terms_of, told


def main() -> int:
    """Play the seeds that are asked for; 1 when one fails."""
    first = int(sys.argv[1])
    last = int(sys.argv[2]) if len(sys.argv) > 2 else first + 1
    failed = 0
    for seed in range(first, last):
        try:
            trace = play(terms_of(seed), script_of(seed))
        except Exception:
            failed += 1
            print(told(seed), flush=True)
        else:
            if last == first + 1:
                print("\n".join(trace))
    return int(failed > 0)


sys.exit(main())

"""A seed becomes terms and a script; a script is played to its quiet end; one that fails is shortened."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from syncd.core.errors import SyncdError
from syncd.core.model import OnDelete
from tests.torture.simulation.moves import (
    MOVES,
    NAMES,
    SIZES,
    Move,
    draw,
    draw_of_insertions,
    draw_of_log,
    draw_of_new,
    make,
)
from tests.torture.simulation.world import RESCAN_SECONDS, Terms, World

LENGTH = 40
"""Moves of a script."""
LOGS_IN = 3
"""In one of so many games there are logs."""
INSERTIONS_IN = 4
"""In one of so many games large files get insertions."""
NEW_IN = 3
"""In one of so many games there are large files of names and sizes that were not there before."""
AUDITS_IN = 4
"""In one of so many games the daemon audits the store, which loses objects."""
AUDIT_SECONDS = 300.0
FOLDERS_IN = 4
"""In one of so many games empty folders are carried, in half of these all folders."""
BEGINNING = 4
"""Files that are saved before anything else happens."""
GRANULARITIES_NS = (1, 1, 4_000_000, 1_000_000_000, 2_000_000_000)

Script = tuple[Move, ...]


def terms_of(seed: int) -> Terms:
    """What is so in the game of a seed."""
    chance = random.Random(f"terms {seed}")
    return Terms(
        seed=seed,
        granularity_ns=chance.choice(GRANULARITIES_NS),
        on_delete=chance.choice((OnDelete.KEEP, OnDelete.DELETE)),
        page_size=chance.choice((1, 2, 1000)),
        random_etags=chance.random() < 0.3,
        completes_again=chance.random() < 0.3,
        completes_with_meta=seed % 3 != 0,
        settle_seconds=chance.choice((2.0, 2.0, 0.3)),
        audit_seconds=AUDIT_SECONDS if seed % AUDITS_IN == 0 else 0.0,
        folders=seed % FOLDERS_IN == 1,
        full_folders=seed % (2 * FOLDERS_IN) == 1,
        in_a_row=1 + 2 * (seed % 2),
        filled=_filled(random.Random(f"filled {seed}")),
    )


def _filled(chance: random.Random) -> tuple[tuple[str, bytes, bytes], ...]:
    """In every third game the store was filled by another program; some files have changed since."""
    if chance.random() > 1 / 3:
        return ()
    files = []
    for name in chance.sample(NAMES, 4):
        content = chance.randbytes(chance.choice(SIZES))
        files.append((name, content, content if chance.random() < 0.7 else content[::-1]))
    return tuple(files)


def script_of(seed: int, length: int = LENGTH) -> Script:
    """The moves of a seed."""
    chance = random.Random(f"script {seed}")
    beginning = tuple(Move("save", MOVES["save"][1](chance), 0.1) for _ in range(BEGINNING))
    script = [*beginning, *(draw(chance) for _ in range(length))]
    if seed % LOGS_IN == 0:
        for _ in range(length // 4):
            script.insert(chance.randrange(BEGINNING, len(script)), draw_of_log(chance))
    if seed % INSERTIONS_IN == 1:
        for _ in range(length // 4):
            script.insert(chance.randrange(BEGINNING, len(script)), draw_of_insertions(chance))
    if seed % NEW_IN == 2:
        for number in range(length // 4):
            script.insert(chance.randrange(BEGINNING, len(script)), draw_of_new(chance, number))
    if seed % AUDITS_IN == 0:
        for _ in range(length // 8):
            lost = Move("lose_object", (chance.choice(NAMES),), chance.choice((0.0, 7.0, 400.0)))
            script.insert(chance.randrange(BEGINNING, len(script)), lost)
    return tuple(script)


class _Bugs(logging.Handler):
    """Ends the history where syncd logs a bug of its own: it would try the file again, and go on."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info is not None else None
        if isinstance(error, Exception) and not isinstance(error, SyncdError):  # a death is neither
            raise error


@contextmanager
def _silence() -> Iterator[None]:
    """Logs are for people, except what they say of bugs."""
    logger, bugs = logging.getLogger("syncd"), _Bugs(logging.ERROR)
    logging.disable(logging.WARNING)
    logger.addHandler(bugs)
    try:
        yield
    finally:
        logger.removeHandler(bugs)
        logging.disable(logging.NOTSET)


def play(terms: Terms, script: Sequence[Move]) -> list[str]:
    """Play a script to its quiet end; returns the trace. Raises `Broken`, or what syncd raised."""
    with _silence():
        world = World(terms)
        try:
            for move in script:
                world.trace.append(f"{world.clock.monotonic():.3f} {move}")
                make(world, move)
                world.run(move.pause_seconds)
            world.calm()
            for number, name in enumerate(NAMES):  # in folders that are known as a whole by now
                make(world, Move("overwrite_in_place", (name, 0, number, "lost", True)))
            world.run(2 * RESCAN_SECONDS)
            world.rest(RESCAN_SECONDS)
            return world.report()
        finally:
            world.close()


def fails(terms: Terms, script: Sequence[Move]) -> str:
    """How a script fails; empty when it does not."""
    try:
        play(terms, script)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def shortened(script: Script, still: Callable[[Script], bool]) -> Script:
    """A shorter script for which `still` holds, too: ever smaller pieces are left out while that is so."""
    piece = max(1, len(script) // 2)
    while True:
        start = 0
        while start < len(script):
            without = script[:start] + script[start + piece :]
            if still(without):
                script = without
            else:
                start += piece
        if piece == 1:
            return script
        piece //= 2


def told(seed: int) -> str:
    """A failing seed in words: how to replay it, and the shortest script that still fails."""
    terms, script = terms_of(seed), script_of(seed)
    how = fails(terms, script)
    if not how:
        return f"seed {seed} does not fail"
    short = shortened(script, lambda shorter: bool(fails(terms, shorter)))
    lines = [
        f"seed {seed}: {how}",
        f"replay: python -m tests.torture.simulation {seed}",
        f"{len(short)} of its moves are enough ({terms}): {fails(terms, short)}",
    ]
    return "\n".join([*lines, *(f"    {move}" for move in short)])

"""The whole engine in one thread, under a clock, a disk and a network of ours; every fifth seed plays twice.

Longer campaigns, and one seed again, with its shortest script if it fails::

    SYNCD_SIMULATION_SEEDS=5000 python -m pytest tests/torture/simulation/test_simulation.py
    python -m tests.torture.simulation 1234
"""

from __future__ import annotations

import os
import random

import pytest

from syncd.sources.files import OpenFile
from tests.torture.simulation.histories import HISTORIES, History
from tests.torture.simulation.moves import MOVES, Move
from tests.torture.simulation.play import fails, play, script_of, shortened, terms_of, told
from tests.torture.simulation.world import Terms

SEEDS = int(os.environ.get("SYNCD_SIMULATION_SEEDS", "150"))
BLOCKS = 10


@pytest.mark.timeout(0 if SEEDS > 1000 else 300)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_history_ends_well(block: int) -> None:
    """Every seed keeps the promises at every moment and in the end; played twice it leaves one trace."""
    for number, seed in enumerate(range(block, SEEDS, BLOCKS)):
        terms, script = terms_of(seed), script_of(seed)
        try:
            first = play(terms, script)
        except Exception as error:
            raise AssertionError(told(seed)) from error
        if number % 5 == 0:
            assert first == play(terms, script), f"seed {seed} is not deterministic"


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.terms.seed)
def test_what_once_ended_badly(history: History) -> None:
    """Each history keeps its rule."""
    assert fails(history.terms, history.script) == "", history.rule


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second look at a file that was read, a mixture of two contents is sent."""
    monkeypatch.setattr(OpenFile, "stat", lambda file: file.opened)
    chance, (_, drawn, _) = random.Random(1), MOVES["rewrite_while_it_is_read"]
    scripts = ([Move("rewrite_while_it_is_read", drawn(chance), 2.5) for _ in range(20)] for _ in range(40))
    assert any("nothing that its file ever was" in fails(terms_of(1), script) for script in scripts)


def test_what_another_program_sent_is_not_sent_again() -> None:
    """Only what has changed since goes over the wire, and the other objects stay as they were."""
    filled = (("a", b"same", b"same"), ("d/a", b"large" * 9, b"large" * 9), ("f", b"new", b"old"))
    trace = play(Terms(seed=1, filled=filled), ())
    over = next(at for at, line in enumerate(trace) if " put_object p/last" in line)
    assert [line.split()[2] for line in trace[:over] if " put_object " in line] == ["p/f"]
    assert not any("upload_part" in line for line in trace[:over])


def test_a_script_is_shortened_to_what_matters() -> None:
    """What remains fails as the whole did, and nothing of it can be left out."""
    script = tuple(Move("touch", (number,)) for number in range(40))

    def fails(shorter: tuple[Move, ...]) -> bool:
        return {script[3], script[17], script[18]} <= set(shorter)

    assert shortened(script, fails) == (script[3], script[17], script[18])

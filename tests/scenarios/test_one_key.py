"""One key, several who would write it: sources that take turns with a prefix, requests overtaken by a reload.

The rule for all of them: in the end each file that is configured and there is under its key, whatever was
deleted, moved, swapped or left hanging before, and no two requests ever change one object at once.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.model import FileRef, OnDelete, Source
from syncd.pipeline import pipeline as pipelines
from syncd.pipeline.context import real_clock
from syncd.pipeline.pipeline import Pipeline
from tests.support.faults import Call
from tests.support.store import FakeStore
from tests.support.waiting import wait_until
from tests.unit.pipeline.test_pipeline import POLICY, Works


@pytest.fixture(autouse=True)
def never_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fake serves the runners before and after a reload."""
    monkeypatch.setattr(FakeStore, "close", lambda store: None)


CHANGES = ("put_object", "copy_object", "delete_object", "complete_multipart_upload")


class Watch:
    """Sees whether two requests change one object at once."""

    def __init__(self, store: FakeStore) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self.collisions: list[str] = []
        for verb in CHANGES:
            store.before(verb, self._begun)
            store.after(verb, self._over)

    def _begun(self, call: Call) -> None:
        with self._lock:
            self._now[call.key] += 1
            if self._now[call.key] > 1:
                self.collisions.append(call.key)

    def _over(self, call: Call) -> None:
        with self._lock:
            self._now[call.key] -= 1


def run(works: Works, *sources: Source) -> Pipeline:
    """One pass under this configuration, by the same state, as another `syncd sync` makes it."""
    one = Pipeline(works.state, real_clock(), once=True, opener=works.stores.open)
    works.apply(*sources, pipeline=one)
    for source in sources:
        one.source_runners[source.name].confirm_deletes()
    one.start()
    assert one.wait_done(lambda: False, lambda: None)
    assert one.stop(30.0)
    return one


def is_firm(works: Works, name: str, path: str) -> bool:
    row = works.state.recorded(FileRef(name, path))
    return row is not None and not row.in_doubt


# ---- sources that take turns with a prefix ----------------------------------------------------------------


def test_rows_of_a_source_that_was_away_while_another_had_its_prefix_are_looked_at(once: Works) -> None:
    """Same stat, same content as recorded, and still another source's object lies there: it is sent again."""
    a, b = (once.source(name, prefix="p/") for name in ("a", "b"))
    once.write("a", "report", b"of a")
    once.write("a", "only", b"of a alone")
    once.write("b", "report", b"of b, quite another")
    run(once, a)
    run(once, b)
    store = once.stores["/one"].reset_counters()

    run(once, a)

    assert store.objects["p/report"].data == b"of a"
    assert store.objects["p/only"].data == b"of a alone"
    assert store.calls["put_object"] == 1, "what was not written over is not sent again"
    store.reset_counters()
    run(once, a)
    assert not store.calls, "looked at once, then believed"


def test_a_source_that_was_not_configured_is_compared_and_not_sent_again(once: Works) -> None:
    """Its rows are forgotten; another prefix beside it and a new source change nothing."""
    a = once.source("a")
    once.write("a", "x", b"1")
    once.write("b", "x", b"2")
    run(once, a)
    run(once, once.source("b"))
    store = once.stores["/one"].reset_counters()

    run(once, a, once.source("b"), once.source("c"))

    assert (store.calls["put_object"], store.calls["head_object"]) == (0, 1)


@pytest.mark.parametrize("is_there", [True, False], ids=["with the name in the other", "without"])
def test_an_object_under_anothers_prefix_is_not_deleted(once: Works, is_there: bool) -> None:
    """Two sources swap their prefixes, and a file of one was deleted before: its key is the other's now."""
    delete = OnDelete.DELETE
    once.write("a", "x", b"of a")
    once.write("a", "stays", b"stays")
    if is_there:
        once.write("b", "x", b"of a")  # the very content, so that nothing is left to tell them apart
    run(once, *(once.source(name, on_delete=delete) for name in "ab"))
    (once.root / "a/x").unlink()

    swapped = once.source("a", prefix="b/", on_delete=delete), once.source("b", prefix="a/", on_delete=delete)
    run(once, *swapped)
    run(once, *swapped)

    assert "a/x" in once.stored()
    assert once.state.recorded(FileRef("a", "x")) is None


def test_the_object_of_another_source_is_not_deleted_for_a_row_of_before(once: Works) -> None:
    """Rows of a source that was not configured are forgotten: what it lost in that time is kept."""
    a, b = (once.source(name, prefix="p/", on_delete=OnDelete.DELETE) for name in ("a", "b"))
    once.write("a", "x", b"of a")
    once.write("a", "y", b"of a too")
    once.write("a", "stays", b"stays")
    once.write("b", "x", b"of b")
    run(once, a)
    run(once, b)
    for name in ("x", "y"):
        (once.root / "a" / name).unlink()

    run(once, a)

    objects = once.stores["/one"].objects
    assert {key: found.data for key, found in objects.items()} == {
        "p/x": b"of b",
        "p/y": b"of a too",
        "p/stays": b"stays",
    }


# ---- any order of them ------------------------------------------------------------------------------------


CONTENTS = (b"1", b"22", b"long enough for parts", b"and another long one")


@dataclass
class Player:
    """Draws what happens, and what has to be true afterwards."""

    works: Works
    chance: random.Random

    def sources(self) -> list[Source]:
        """One of the configurations: any of two sources, under either prefix, with or without deletions."""
        prefixes = self.chance.sample(["x/", "y/"], 2)
        names = self.chance.choice([["a"], ["b"], ["a", "b"], ["a", "b"]])
        policy = self.chance.choice(list(OnDelete))
        return [
            self.works.source(name, prefix=prefix, on_delete=policy)
            for name, prefix in zip(names, prefixes, strict=False)
        ]

    def change(self) -> None:
        """A file is written, touched, renamed or removed; contents are often those of another file."""
        root = self.works.root / self.chance.choice("ab")
        path, other = (root / self.chance.choice("fgh") for _ in range(2))
        if path.exists() and self.chance.random() < 0.6:
            path.rename(other) if self.chance.random() < 0.5 else path.unlink()
        else:
            path.write_bytes(self.chance.choice(CONTENTS))

    def check(self, sources: list[Source]) -> None:
        objects = self.works.stores["/one"].objects
        for source in sources:
            for path in Path(source.root).iterdir():
                key = source.prefix + path.name
                assert key in objects, f"{source.name}: {path.name} is there, and its object is not"
                assert objects[key].data == path.read_bytes(), f"{key} is not {source.name}'s"


@pytest.mark.parametrize("seed", range(12))
def test_every_file_that_is_configured_is_under_its_key_after_each_pass(once: Works, seed: int) -> None:
    """Whatever order of changes and configurations, also where a pass is overtaken by a reload."""
    watch = Watch(once.stores["/one"])
    player = Player(once, random.Random(seed))
    for name in "ab":
        once.source(name)
        once.write(name, "stays", b"stays")
    for _ in range(8):
        for _ in range(player.chance.randrange(1, 5)):
            player.change()
        sources = player.sources()
        if player.chance.random() < 0.3:
            overtaken = Pipeline(once.state, real_clock(), opener=once.stores.open)
            once.apply(*sources, pipeline=overtaken)
            overtaken.start()
            sources = player.sources()
            once.apply(*sources, pipeline=overtaken, policy=replace(POLICY, concurrency=2))
            overtaken.start()
            assert overtaken.stop(30.0)
        run(once, *sources)
        player.check(sources)
    assert watch.collisions == []


# ---- requests that a reload left behind -------------------------------------------------------------------


def hang(store: FakeStore, verb: str) -> tuple[threading.Event, threading.Event]:
    """The first request of this verb hangs before its effect: when it does, and what lets it go on."""
    inside, go, first = threading.Event(), threading.Event(), [True]

    def wait(_call: Call) -> None:
        if first:
            first.clear()
            inside.set()
            assert go.wait(30)

    store.before(verb, wait)
    return inside, go


LARGE = b"many parts, long enough"


@pytest.mark.parametrize("verb", CHANGES)
def test_a_request_that_a_reload_left_behind_does_not_have_the_last_word(
    works: Works, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes effect after its successor's: the row does not say otherwise, and the next scan mends it."""
    monkeypatch.setattr(pipelines, "RETIRE_SECONDS", 0.0)
    store = works.stores["/one"]
    source = works.source("a", prefix="p/", on_delete=OnDelete.DELETE, settle_seconds=0.0)
    works.write("a", "twin", b"copied")
    old = {"copy_object": b"copied", "complete_multipart_upload": LARGE}.get(verb, b"old")
    works.apply(source)
    works.pipeline.start()
    wait_until("the twin is there", lambda: is_firm(works, "a", "twin"))
    if verb == "delete_object":
        works.write("a", "f", b"old")
        works.pipeline.changed("a", "f")
        wait_until("it is there", lambda: is_firm(works, "a", "f"))
    inside, go = hang(store, verb)
    if verb == "delete_object":
        (works.root / "a/f").unlink()
    else:
        works.write("a", "f", old)
    works.pipeline.changed("a", "f")
    assert inside.wait(30)
    works.write("a", "f", b"the new one")

    works.apply(source, policy=replace(POLICY, concurrency=2))
    works.pipeline.start()
    wait_until("the new one is recorded", lambda: _is_settled(works, b"the new one"))
    assert not is_firm(works, "a", "f"), "this process may die before the old request ends"
    _let_go(works, go)

    wait_until("the new one has the last word", lambda: _is_settled(works, b"the new one"))


def test_a_request_that_ends_after_its_time_without_an_answer_leaves_a_doubt(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of its successor is firm by then; it is asked about once more."""
    monkeypatch.setattr(pipelines, "RETIRE_SECONDS", 0.0)
    store = works.stores["/one"]
    source = works.source("a", prefix="p/")
    works.write("a", "f", b"old")
    store.lose_answer("put_object", nth=1)
    inside, go = hang(store, "put_object")
    works.apply(source)
    works.pipeline.start()
    assert inside.wait(30)
    works.write("a", "f", b"the new one")
    works.apply(source, policy=replace(POLICY, concurrency=2))
    works.state.unsettled._until.clear()  # a quarter of an hour later
    works.pipeline.start()
    wait_until("the new one is firm", lambda: is_firm(works, "a", "f"))

    _let_go(works, go)

    wait_until("the new one has the last word", lambda: _is_settled(works, b"the new one"))


def _let_go(works: Works, go: threading.Event) -> None:
    """The old request takes effect and its worker ends; then everything is looked at once."""
    go.set()
    wait_until("the old workers end", lambda: all(each.join(0.0) for each in works.pipeline._retired))
    works.pipeline.rescan("a", "", "the test asks")


def content(store: FakeStore, key: str) -> bytes | None:
    found = store.objects.get(key)
    return None if found is None else found.data


def _is_settled(works: Works, wanted: bytes) -> bool:
    idle = works.pipeline.idle() and works.pipeline.source_runners["a"].settled()
    return idle and content(works.stores["/one"], "p/f") == wanted


def test_a_reload_that_has_to_wait_for_no_request_leaves_no_doubt(works: Works) -> None:
    """The ordinary one: no row is in doubt, no object is asked for."""
    source = works.source("a")
    works.write("a", "x", b"1")
    works.apply(source)
    works.pipeline.start()
    wait_until("it is there", lambda: is_firm(works, "a", "x"))
    store = works.stores["/one"]
    heads = store.calls["head_object"]
    for number in (2, 4, 5):
        works.apply(source, policy=replace(POLICY, concurrency=number))
        works.pipeline.start()
    wait_until("it is compared", lambda: works.pipeline.source_runners["a"].settled())
    assert is_firm(works, "a", "x")
    assert store.calls["head_object"] == heads


def test_the_rows_of_what_two_stores_of_one_place_write_are_one(works: Works) -> None:
    """Two names in the configuration for one bucket: its engines share the keys."""
    name: Any = works.stores["/one"].store_id
    works.apply(works.source("a", store="one"), works.source("b", store="two"), two="/one")
    works.pipeline.start()
    assert {(each.source, each.store_id) for each in works.state.destinations} == {("a", name), ("b", name)}

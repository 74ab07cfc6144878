"""Which objects go when their files are gone: the very ones that were recorded, and no others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import StoreRefused
from syncd.core.model import Destination, OnDelete
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.reuse import Census
from tests.support.rig import Rig

CONTENT = b"content"


def another(rig: Rig) -> None:
    """Another program writes there."""
    rig.fake.without_metadata("p/00", b"theirs")


def other_machine(rig: Rig) -> None:
    rig.fake.without_metadata("p/00", b"theirs")
    there = rig.fake.objects["p/00"]
    rig.fake.objects["p/00"] = replace(there, meta=replace(there.meta, instance="another"))


def lost(rig: Rig) -> None:
    """An answer was lost: the row is in doubt, and the object may be ours and newer."""
    row = rig.state.recorded(rig.ref("00"))
    assert row is not None
    rig.state.doubt(rig.ref("00"), row)


def late(rig: Rig) -> None:
    """A request may yet be carried out."""
    rig.state.unsettled.add(rig.store.store_id, "p/00", creates=False)


def taken_over(rig: Rig) -> None:
    """Its key is where a file of another source goes by now."""
    own = Destination("docs", rig.store.store_id, "p/")
    rig.state.serve([own])
    rig.state.serve([Destination("other", rig.store.store_id, "p/"), own._replace(prefix="q/")])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    for number in range(12):
        rig.write(f"{number:02}", CONTENT)
        rig.sync(f"{number:02}")
        (rig.folder / f"{number:02}").unlink()
    rig.fake.reset_counters()
    return rig


def announce(rig: Rig, monotonic: Callable[[], float] = time.monotonic) -> None:
    keys = [f"p/{number:02}" for number in range(12)]
    rig.know(census=Census(rig.store, "p/", keys, Heartbeat(), monotonic))


@pytest.mark.parametrize(
    ("change", "goes", "asked"),
    [
        (lambda rig: None, True, False),
        (another, False, True),
        (other_machine, False, True),
        (lost, True, True),
        (late, True, True),
        (lambda rig: rig.fake.objects.pop("p/00"), True, True),
        (taken_over, False, False),
    ],
)
def test_many_at_once_are_asked_for_only_where_the_listing_does_not_decide(
    rig: Rig, change: Callable[[Rig], None], goes: bool, asked: bool
) -> None:
    """The listing shows the recorded object, or a HEAD decides; a row in doubt is never believed."""
    change(rig)
    announce(rig)
    try:
        rig.sync("00", delete_allowed=True)
    except StoreRefused:
        assert change is other_machine
    assert ("p/00" not in rig.fake.objects) == goes
    assert rig.fake.calls["head_object"] == asked
    for number in range(1, 12):
        if change not in (other_machine, taken_over):
            rig.sync(f"{number:02}", delete_allowed=True)
    if change in (another, late):
        assert {*rig.fake.objects} == ({"p/00"} if change is another else set())
        assert (rig.fake.calls["head_object"], rig.fake.calls["list_objects"]) == (1, 1)


def test_what_is_replaced_behind_the_listing_is_found_a_few_seconds_later(rig: Rig) -> None:
    """A listing is not believed for longer."""
    now = 0.0
    announce(rig, lambda: now)
    rig.sync("01", delete_allowed=True)
    another(rig)
    now += 10.1
    rig.sync("00", delete_allowed=True)
    assert "p/00" in rig.fake.objects


@pytest.mark.parametrize("owned", [True, False])
def test_what_stood_for_another_kind_stays_where_another_source_has_it_by_now(
    tmp_path: Path, owned: bool
) -> None:
    """A link takes the place of a file, and the source has another prefix: its old object is another's."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.configure(records_links=True)
    rig.write("name", CONTENT)
    rig.sync("name")
    rig.configure(prefix="q/")
    if owned:
        store_id = rig.store.store_id
        rig.state.serve([Destination("other", store_id, "p/"), Destination("docs", store_id, "q/")])
    (rig.folder / "name").unlink()
    (rig.folder / "name").symlink_to("elsewhere")
    rig.sync("name")
    kept = {"p/name"} if owned else set()
    assert {*rig.fake.objects} == {"q/name.rclonelink"} | kept

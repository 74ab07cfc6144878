"""A file becomes a folder, a folder becomes a file, and back: the store follows, under the natural names."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from syncd.core.model import OnDelete
from syncd.core.plan import Nothing
from syncd.storage.base import ObjectStore
from syncd.storage.dir.store import DirStore
from syncd.storage.opening import open_store
from syncd.storage.settings import BosSettings, DirSettings, S3Settings
from tests.contract.subjects import BosSubject, context
from tests.support.bos_server import BosServer
from tests.support.rig import Rig
from tests.support.servers import S3Server
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import wait_until
from tests.unit.pipeline.house import House

SHAPES = {
    "file": {"n"},
    "folder": {"n/today", "n/b"},
    "deep": {"n/a/b/c"},
    "nothing": set(),
}
LEFT_ALONE = {"other", "n.txt"}


def _become(folder: Path, shape: set[str]) -> None:
    """What people do: remove the one, make the other."""
    place = folder / "n"
    if place.is_dir():
        shutil.rmtree(place)
    elif place.exists():
        place.unlink()
    for name in shape | LEFT_ALONE:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content of " + os.fsencode(name))


def _visible(root: Path) -> set[str]:
    # os.walk passes over a directory that goes while it is looked at; pathlib raises.
    places = (os.path.join(place, name) for place, _, names in os.walk(root) for name in names)
    found = {os.path.relpath(path, root) for path in places}
    return {path for path in found if path.partition("/")[0] != ".syncd"}


@pytest.mark.parametrize(("kind", "told"), [("fake", True), ("dir", False)])
@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(SHAPES, 2)))
def test_the_store_has_what_the_folder_has(
    tmp_path: Path, first: str, second: str, kind: str, told: bool
) -> None:
    """There and back, by a scan or by an event; a directory store has no other name for any of it."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    store: ObjectStore = DirStore(DirSettings(str(mirror))) if kind == "dir" else FakeStore(SMALL_LIMITS)
    house = House(tmp_path, store=store, on_delete=OnDelete.DELETE)
    house.start()
    try:
        for shape in (first, second, first):
            before = {str(path.relative_to(house.rig.folder)) for path in house.rig.folder.rglob("*")}
            _become(house.rig.folder, SHAPES[shape])
            for name in before | SHAPES[shape] if told else ():
                house.workers.queue.mark(house.rig.ref(name), quiet_seconds=0.0, event=True)
            if not told:
                house.runner.ask("", "look")
            wanted = SHAPES[shape] | LEFT_ALONE

            def is_so(wanted: set[str] = wanted) -> bool:
                house.later(5.0)
                if kind == "dir" and _visible(mirror / "p") != wanted:
                    return False
                return {info.key.removeprefix("p/") for info in store.list_objects("")} == wanted

            wait_until(f"the store has {wanted}", is_so)
    finally:
        house.close()


@pytest.mark.parametrize("kind", ["bos", pytest.param("ceph", marks=pytest.mark.real_server)])
def test_a_real_store_has_what_the_folder_has(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Each shape follows each other."""
    server: S3Server | BosServer = request.getfixturevalue(f"{kind}_server")
    if isinstance(server, BosServer):
        server.disk.create("shapes")
        settings: S3Settings | BosSettings = BosSubject(server).settings(bucket="shapes")
    else:
        server.make_bucket("shapes")
        settings = server.settings("shapes")
    store = open_store(settings, context())
    house = House(tmp_path, store=store, on_delete=OnDelete.DELETE)
    house.start()
    try:
        for name in ("file", "folder", "deep", "file", "deep", "folder", "file", "nothing", "file"):
            _become(house.rig.folder, SHAPES[name])
            house.runner.ask("", "look")

            def is_so(wanted: set[str] = SHAPES[name] | LEFT_ALONE) -> bool:
                house.later(5.0)
                return {info.key.removeprefix("p/") for info in store.list_objects("")} == wanted

            wait_until(f"the store has the shape {name}", is_so)
    finally:
        house.close()
        store.close()


def test_what_is_kept_stays(tmp_path: Path) -> None:
    """Without `on_delete: delete` both are there, and nothing is asked for."""
    rig = Rig(tmp_path, on_delete=OnDelete.KEEP)
    rig.write("n", b"file")
    rig.sync("n")
    (rig.folder / "n").unlink()
    rig.write("n/today", b"today")
    rig.sync("n/today")
    outcome = rig.sync("n")
    assert outcome.action == Nothing("deletes are kept")
    assert set(rig.fake.objects) == {"p/n", "p/n/today"}
    rig.close()


@pytest.mark.parametrize("irregular", ["link", "fifo"])
def test_what_may_hide_the_file_keeps_its_object(tmp_path: Path, irregular: str) -> None:
    """A link may lead to it, and anything but a directory can be mounted over it."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("n", b"file")
    rig.sync("n")
    (rig.folder / "n").unlink()
    if irregular == "link":
        (rig.folder / "n").symlink_to("elsewhere")
    else:
        os.mkfifo(rig.folder / "n")
    outcome = rig.sync("n", delete_allowed=True)
    assert outcome.action == Nothing("not a regular file")
    assert set(rig.fake.objects) == {"p/n"}
    rig.close()

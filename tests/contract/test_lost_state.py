"""A state that is lost is rebuilt from what travels with the objects: nothing is sent again, on any store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.sync import Pass, run_once
from syncd.config.load import Settings
from syncd.core.model import FileRef, Source, TransferPolicy
from syncd.daemon import process
from syncd.pipeline.context import real_clock
from syncd.state.state import State
from syncd.storage.settings import DirSettings, StoreSettings
from tests.contract.subjects import DirSubject, HttpSubject, Subject
from tests.contract.test_store_contract import THIRD_PARTIES, content, make_subject

PART_SIZE = 5 << 20
FILES = {"empty": 0, "small": 1000, "in parts": 2 * PART_SIZE + 12345, "d/ü name": 70_000}


@pytest.fixture(params=["dir", "dir-sidecars", *THIRD_PARTIES, "bos"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each store in turn, on a place of its own."""
    made = make_subject(request.param, request)
    yield made
    made.close()


class Place:
    """A folder with files in it, a state, and the store."""

    def __init__(self, root: Path, subject: Subject) -> None:
        self.subject = subject
        self.folder = root / "watched"
        self.state_dir = root / "state"
        self.settings = self._settings(root)
        self.source = Source("docs", str(self.folder), "one", prefix=f"{subject.prefix}/", settle_seconds=0.0)
        for number, (name, size) in enumerate(FILES.items()):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(size, number))
            os.utime(path, ns=(10**18 + number, 10**18 + number))

    def _settings(self, root: Path) -> StoreSettings:
        if isinstance(self.subject, DirSubject):
            return DirSettings(str(root / "mirror"), create=True)
        assert isinstance(self.subject, HttpSubject)
        return self.subject.settings()

    def run(self) -> tuple[Pass, dict[str, str]]:
        """One pass, and the ETag that is recorded for each file."""
        state = State.open(str(self.state_dir), now_ns=time.time_ns)
        try:
            policy = TransferPolicy(concurrency=2, part_size=PART_SIZE)
            settings = Settings(
                path="",
                state_dir=str(self.state_dir),
                stores={"one": self.settings},
                sources=(self.source,),
                transfer=policy,
            )
            done = run_once(
                settings, state, real_clock(), should_stop=lambda: False, tick=lambda pipeline: None
            )
            rows = {name: state.recorded(FileRef("docs", name)) for name in FILES}
            return done, {name: row.etag for name, row in rows.items() if row is not None}
        finally:
            state.close()


def test_a_lost_state_costs_a_look_and_no_content(
    tmp_path: Path, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every object is known again by its fingerprint, put or made of parts; and what changed is sent."""
    monkeypatch.setattr(process, "machine_id", lambda: "a" * 32)  # a container has none that lasts
    place = Place(tmp_path, subject)
    first, etags = place.run()
    assert first.pipeline.tally.bytes_sent == sum(FILES.values())
    assert etags.keys() == FILES.keys()
    shutil.rmtree(place.state_dir)

    again, etags_again = place.run()

    assert again.pipeline.tally.bytes_sent == 0
    if subject.quirk("changes the ETag of joined objects"):
        etags["in parts"] = etags_again["in parts"]
    assert etags_again == etags

    shutil.rmtree(place.state_dir)
    (place.folder / "small").write_bytes(b"another")
    changed, etags_changed = place.run()
    assert changed.pipeline.tally.bytes_sent == len(b"another")
    assert {name for name in FILES if etags_changed[name] != etags[name]} == {"small"}

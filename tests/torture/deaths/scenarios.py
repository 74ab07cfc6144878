"""What was there before, what is done when death strikes, and how the file changes before the next start."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from syncd.core.errors import StoreRefused, SyncdError
from syncd.core.model import Adoption, Fingerprint, Leftover, ObjectMeta, OnDelete, Properties
from syncd.state.audits import Unlike
from syncd.transfer import audit
from syncd.transfer.reuse import MANY, Census
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.torture.deaths.places import LEAST_PART
from tests.torture.deaths.points import STORE_EFFECTS, Death, Fate, Point

SMALL = b"small"
TINY = b"tiny"
BIG = bytes(i % 251 for i in range(3 * PART + 3))
OTHER = BIG[::-1]
HUGE = bytes(i % 251 for i in range(SMALL_LIMITS.max_put_size + 3))
"""Too large to be copied by one request."""
LONGER = BIG + b"more"
INSERTED = random.Random(1).randbytes(8 * PART)
MOVED, MOVED_AGAIN = INSERTED[:5] + b"+" + INSERTED[5:], INSERTED[:5] + b"++" + INSERTED[5:]
LOG = b"line 01\nline 02\nline 03\nl4\n"
LONGER_LOG = LOG + b"l5\n"
CONCURRENCY = 2
ROTTEN = b"smell"
LARGEST_REQUEST = PART + 2
"""Bytes."""


@dataclass(frozen=True)
class Scenario:
    """`prepare` runs undisturbed; `step` is what dies, and what the next start does again."""

    name: str
    prepare: Callable[[Rig], None]
    step: Callable[[Rig], None]
    want: tuple[bytes | None, ...]
    """What may be under the key in the end; None for no object."""
    before: tuple[bytes | None, ...]
    """What else may be under the key at any moment from `prepare` on."""
    needed: int
    """Bytes that have to be sent after `prepare`."""
    on_delete: OnDelete = OnDelete.KEEP
    between_lives: Callable[[Rig], None] = lambda rig: None
    """What happens to the folder between the death and the next start."""
    others: tuple[tuple[str, bytes | None], ...] = ()
    """Keys behind the prefix, with what must be there in the end; None: nothing."""
    every_part: bool = False
    """Each of many equal calls is met, not only the first and the last."""
    on_fake: bool = False
    """Only the fake can be made to answer so."""
    wasted: int = 0
    """Bytes for which there is no use any more when they have been sent."""

    @property
    def allowed(self) -> tuple[bytes | None, ...]:
        """Whatever may be under the key at some moment."""
        return (*self.want, *self.before)


# ---- steps -----------------------------------------------------------------------------------------------


def _sync(rig: Rig) -> None:
    rig.sync("file")


def _delete(rig: Rig) -> None:
    """A look at a file whose object may go."""
    rig.sync("file", delete_allowed=True)


def _delete_listed(rig: Rig) -> None:
    """One of many that go at once: a list shows its object, or a look does."""
    key = rig.engine.keys.of(rig.ref("file"))
    keys = [key, *(f"{key}-{number}" for number in range(MANY))]
    rig.know(census=Census(rig.engine.store, key, keys, rig.slots.heartbeat, time.monotonic))
    _delete(rig)


def _delete_and_return(rig: Rig) -> None:
    """The object is removed, and whether or not that was answered, the file comes back."""
    failure: SyncdError | None = None
    if not (rig.folder / "file").exists():
        try:
            _delete(rig)
        except SyncdError as error:
            failure = error
        rig.write("file", TINY)
    rig.sync("file", delete_allowed=failure is not None)
    if failure is not None:
        raise failure


def _return(rig: Rig) -> None:
    """The file is found gone, its object is kept, and the same content comes back."""
    if not (rig.folder / "file").exists():
        rig.sync("file")
        rig.write("file", BIG)
    rig.sync("file")


def _restamp(rig: Rig) -> None:
    """The object gets properties by a copy onto itself; then the file is looked at, and is as it was."""
    rig.know(properties=lambda path: Properties(cache_control="no-cache"))
    if rig.uploader.leftovers.look():
        rig.engine.clear_up()
    rig.engine.stamper.restamp(rig.ref("file"), dry_run=False)
    rig.sync("file")


def _repair(rig: Rig) -> None:
    """As the end of an audit does it: the record is put in doubt, and the file looked at."""
    audit.repair(rig.ref("file"), rig.engine.state)
    rig.sync("file")


def _adopt(rig: Rig) -> None:
    rig.know(reconciling=True)
    rig.sync("file")


def _stamp(rig: Rig) -> None:
    """The object of another program is recorded, and gets the metadata of ours by a copy onto itself."""
    rig.know(source=replace(rig.engine.sources["docs"].source, adopt=Adoption.STAMP))
    _adopt(rig)
    if rig.uploader.leftovers.look():
        rig.engine.clear_up()


def _in_turn(*names: str) -> Callable[[Rig], None]:
    """Carry these files, one of which takes what the other had: neither stops the other."""

    def steps(rig: Rig) -> None:
        failures: list[SyncdError] = []
        for name in names:
            try:
                rig.sync(name)
            except SyncdError as error:
                failures.append(error)
        for failure in failures:
            raise failure

    return steps


def _end_unfinished(rig: Rig) -> None:
    """Uploads that lead nowhere by now are left, and then aborted."""
    for each in rig.engine.state.checkpoints.all():
        left = each.store_id, each.key, each.upload_id or "", each.created_ns
        rig.engine.state.checkpoints.leave(Leftover(each.ref, *left), each.id)
    if rig.uploader.leftovers.look():
        rig.engine.clear_up()


def _refused_once(rig: Rig) -> None:
    """The store refuses to complete the upload, and takes it at the next try."""
    try:
        rig.sync("file")
    except StoreRefused:
        rig.sync("file")


def _carry(rig: Rig) -> None:
    """A file that grows, and may have been cut before its end: what follows is carried at the next look."""
    rig.know(appends=lambda path: True)
    for _ in range(2):
        rig.engine.sync(rig.ref("file"), event=True, settle_seconds=3600.0, overdue=True)


# ---- what was there before -------------------------------------------------------------------------------


def _file(content: bytes) -> Callable[[Rig], None]:
    def prepare(rig: Rig) -> None:
        rig.write("file", content)

    return prepare


def _sparse(rig: Rig) -> None:
    """A file in which nothing was ever written."""
    rig.write("file", b"")
    os.truncate(rig.folder / "file", len(BIG))


def _sent_by_another(content: bytes) -> Callable[[Rig], None]:
    def prepare(rig: Rig) -> None:
        rig.write("file", content)
        key = rig.engine.keys.of(rig.ref("file"))
        real = rig.store._real  # type: ignore[attr-defined]  # behind the witness
        if isinstance(real, FakeStore):
            real.without_metadata(key, content)
        else:
            real.put_object(key, content, ObjectMeta(Fingerprint(b"", len(content)), 0))

    return prepare


def _gone(rig: Rig) -> None:
    (rig.folder / "file").unlink()


def _recorded(content: bytes, now: bytes | None) -> Callable[[Rig], None]:
    """The file was carried with one content, and has another one now."""

    def prepare(rig: Rig) -> None:
        rig.write("file", content)
        rig.sync("file")
        _gone(rig) if now is None else rig.write("file", now)

    return prepare


def _moved_before(rig: Rig) -> None:
    """One insertion was sent as a whole, and a second one follows."""
    rig.state.learn(rig.store.store_id, "min_part_size", str(LEAST_PART))
    _recorded(INSERTED, MOVED)(rig)
    rig.sync("file")
    rig.write("file", MOVED_AGAIN)


def _lost(content: bytes) -> Callable[[Rig], None]:
    """The object of a recorded file is gone."""

    def prepare(rig: Rig) -> None:
        _recorded(content, content)(rig)
        rig.store._real.delete_object(rig.engine.keys.of(rig.ref("file")))  # type: ignore[attr-defined]

    return prepare


def _rotten(content: bytes) -> Callable[[Rig], None]:
    """The object has lost its content and kept all else, and an audit has found that."""

    def prepare(rig: Rig) -> None:
        _recorded(content, content)(rig)
        row = rig.state.recorded(rig.ref("file"))
        assert row is not None
        rig.store._real.tamper(row.key, ROTTEN)  # type: ignore[attr-defined]
        rig.state.audits.keep("docs", [Unlike(rig.ref("file"), row.etag, "rotten", True, row.etag)])

    return prepare


def _grown(rig: Rig) -> None:
    rig.write("file", LOG)
    _carry(rig)
    rig.write("file", LONGER_LOG)


def _half_sent(rig: Rig) -> None:
    """An upload with two parts there, as a cut connection leaves it."""
    rig.write("file", BIG)
    fate = Fate(Point("upload_part", 3, after=False))
    rig.plain(concurrency=1)  # so that it is always the same two parts
    rig.restart(wrap_store=lambda store: fate.wrap(store, STORE_EFFECTS))
    with pytest.raises(Death):
        rig.sync("file")
    rig.plain(concurrency=CONCURRENCY)
    rig.restart()


def _was_a_link(content: bytes) -> Callable[[Rig], None]:
    """A file took its place."""

    def prepare(rig: Rig) -> None:
        rig.source = replace(rig.source, records_links=True)
        rig.restart()
        (rig.folder / "file").symlink_to("elsewhere")
        rig.sync("file")
        _gone(rig)
        rig.write("file", content)

    return prepare


def _half_sent_then(change: Callable[[Rig], None]) -> Callable[[Rig], None]:
    def prepare(rig: Rig) -> None:
        _half_sent(rig)
        change(rig)

    return prepare


def _id_lost(rig: Rig) -> None:
    """An upload whose id never reached the state."""
    rig.write("file", BIG)
    fate = Fate(Point("create_multipart_upload", 1, after=True))
    rig.restart(wrap_store=lambda store: fate.wrap(store, STORE_EFFECTS))
    with pytest.raises(Death):
        rig.sync("file")
    rig.restart()


def _twin(content: bytes) -> Callable[[Rig], None]:
    def prepare(rig: Rig) -> None:
        rig.write("twin", content)
        rig.sync("twin")
        rig.write("file", content)

    return prepare


def _beside(other: bytes) -> Callable[[Rig], None]:
    """What is recorded of another file keeps this one from being sent ahead of its fingerprint."""

    def prepare(rig: Rig) -> None:
        _twin(other)(rig)
        rig.write("file", BIG)

    return prepare


def _changing_twin(rig: Rig) -> None:
    _twin(SMALL)(rig)
    rig.write("twin", TINY)


def _moved(rig: Rig) -> None:
    """The source has another prefix from now on."""
    rig.source = replace(rig.source, prefix=rig.source.prefix + "moved/")


def _sent_then_moved(rig: Rig) -> None:
    rig.write("file", BIG)
    rig.sync("file")
    _moved(rig)


def _to_be_refused(rig: Rig) -> None:
    rig.write("file", BIG)
    fake = rig.store._real  # type: ignore[attr-defined]  # behind the witness
    fake.fail("complete_multipart_upload", StoreRefused("no", status=422), times=1)


def _parts_known_as_too_small(rig: Rig) -> None:
    rig.write("file", BIG)
    rig.state.learn(rig.store.store_id, "min_part_size", str(LARGEST_REQUEST))


def _parts_too_small(rig: Rig) -> None:
    """The store takes larger parts than it was believed to, and says so at the very end."""
    rig.write("file", BIG)
    rig.plain(part_size=4)


SCENARIOS = (
    Scenario("put", _file(SMALL), _sync, (SMALL,), (None,), len(SMALL)),
    Scenario("empty", _file(b""), _sync, (b"",), (None,), 0),
    Scenario("multipart", _file(BIG), _sync, (BIG,), (None,), len(BIG), every_part=True),
    Scenario("holes", _sparse, _sync, (bytes(len(BIG)),), (None,), len(BIG)),
    Scenario("second-of-its-size", _beside(OTHER), _sync, (BIG,), (None,), len(BIG)),
    Scenario("copy-of-a-block", _beside(LONGER), _sync, (BIG,), (None,), len(BIG) % PART),
    Scenario("resume", _half_sent, _sync, (BIG,), (None,), len(BIG) - 2 * PART, every_part=True),
    Scenario("swept", _id_lost, _sync, (BIG,), (None,), len(BIG)),
    Scenario("restart", _half_sent_then(_file(OTHER)), _sync, (OTHER,), (None,), len(OTHER), every_part=True),
    Scenario("restart-small", _half_sent_then(_file(SMALL)), _sync, (SMALL,), (None,), len(SMALL)),
    Scenario("restart-moved", _half_sent_then(_moved), _sync, (BIG,), (None,), len(BIG)),
    Scenario("replace", _recorded(BIG, OTHER), _sync, (OTHER,), (BIG,), len(OTHER)),
    Scenario("replace-small", _recorded(SMALL, TINY), _sync, (TINY,), (SMALL,), len(TINY)),
    Scenario("grow", _recorded(SMALL, BIG), _sync, (BIG,), (SMALL,), len(BIG)),
    Scenario("shrink", _recorded(BIG, SMALL), _sync, (SMALL,), (BIG,), len(SMALL)),
    Scenario("delta", _recorded(BIG, LONGER), _sync, (LONGER,), (BIG,), len(LONGER) % PART, every_part=True),
    Scenario("moved-content", _moved_before, _sync, (MOVED_AGAIN,), (MOVED,), 3 * LEAST_PART),
    Scenario("copy", _twin(SMALL), _sync, (SMALL,), (None,), 0),
    Scenario("copy-big", _twin(BIG), _sync, (BIG,), (None,), 0),
    Scenario("restamp", _recorded(SMALL, SMALL), _restamp, (SMALL,), (), 0),
    Scenario("restamp-huge", _recorded(HUGE, HUGE), _restamp, (HUGE,), (), 0),
    Scenario("adopt", _sent_by_another(SMALL), _adopt, (SMALL,), (), 0),
    Scenario("adopt-big", _sent_by_another(BIG), _adopt, (BIG,), (), 0),
    Scenario("stamp", _sent_by_another(BIG), _stamp, (BIG,), (), 0),
    Scenario("stamp-huge", _sent_by_another(HUGE), _stamp, (HUGE,), (), 0),
    Scenario("repair", _lost(SMALL), _repair, (SMALL,), (None,), len(SMALL)),
    Scenario("repair-big", _lost(BIG), _repair, (BIG,), (None,), len(BIG)),
    # Until it is recorded, nothing tells the new object from the rotten one.
    Scenario(
        "repair-rotten", _rotten(SMALL), _repair, (SMALL,), (ROTTEN,), len(SMALL), wasted=len(SMALL),
        on_fake=True,
    ),
    Scenario("moved", _sent_then_moved, _sync, (BIG,), (None,), 0, others=(("file", BIG),)),
    Scenario(
        "twin-first", _changing_twin, _in_turn("twin", "file"), (SMALL,), (None,), len(SMALL + TINY),
        others=(("twin", TINY),),
    ),
    Scenario(
        "file-first", _changing_twin, _in_turn("file", "twin"), (SMALL,), (None,), len(TINY),
        others=(("twin", TINY),),
    ),
    Scenario("delete", _recorded(SMALL, None), _delete, (None,), (SMALL,), 0, OnDelete.DELETE),
    Scenario("delete-listed", _recorded(SMALL, None), _delete_listed, (None,), (SMALL,), 0, OnDelete.DELETE),
    Scenario(
        "delete-and-return", _recorded(SMALL, None), _delete_and_return,
        (TINY,), (SMALL, None), len(TINY), OnDelete.DELETE,
    ),
    *(
        Scenario(
            f"link-to-file-{len(content)}", _was_a_link(content), _sync, (content,), (None,), len(content),
            OnDelete.DELETE, others=(("file.rclonelink", None),),
        )
        for content in (SMALL, BIG)
    ),
    Scenario("keep", _recorded(BIG, None), _sync, (BIG,), (), 0),
    Scenario("keep-and-return", _recorded(BIG, None), _return, (BIG,), (), 0),
    Scenario("abandon", _half_sent_then(_gone), _sync, (None,), (), 0),
    Scenario("left", _half_sent_then(_gone), _end_unfinished, (None,), (), 0),
    Scenario("refused", _to_be_refused, _refused_once, (BIG,), (None,), len(BIG), on_fake=True),
    Scenario("known-too-small", _parts_known_as_too_small, _sync, (BIG,), (None,), len(BIG)),
    Scenario("too-small", _parts_too_small, _sync, (BIG,), (None,), len(BIG), wasted=2 * len(BIG)),
    Scenario("append", _grown, _carry, (LONGER_LOG,), (LOG,), len(LONGER_LOG) % PART, every_part=True),
    # The file does not wait for us to come back.
    Scenario(
        "append-then-grown", _file(LOG), _carry, (LONGER_LOG,), (None, LOG), len(LONGER_LOG),
        wasted=len(LOG), between_lives=_file(LONGER_LOG), every_part=True,
    ),
    Scenario(
        "put-then-grown", _file(SMALL), _sync, (BIG,), (None, SMALL), len(BIG), wasted=len(SMALL),
        between_lives=_file(BIG),
    ),
    Scenario(
        "multipart-then-other", _file(BIG), _sync, (OTHER,), (None, BIG), len(OTHER), wasted=len(BIG),
        between_lives=_file(OTHER),
    ),
    Scenario(
        "multipart-then-small", _file(BIG), _sync, (SMALL,), (None, BIG), len(SMALL), wasted=len(BIG),
        between_lives=_file(SMALL),
    ),
    Scenario(
        "multipart-then-gone", _file(BIG), _sync, (None, BIG), (), 0, wasted=len(BIG), between_lives=_gone
    ),
    Scenario(
        "replace-then-back", _recorded(BIG, OTHER), _sync, (BIG,), (OTHER,), 0, wasted=len(OTHER) + len(BIG),
        between_lives=_file(BIG),
    ),
    Scenario(
        "replace-small-then-back", _recorded(SMALL, TINY), _sync, (SMALL,), (TINY,), len(SMALL),
        wasted=len(TINY), between_lives=_file(SMALL),
    ),
    Scenario(
        "replace-then-gone", _recorded(BIG, OTHER), _delete, (None,), (BIG, OTHER), 0, OnDelete.DELETE,
        wasted=len(OTHER), between_lives=_gone,
    ),
    Scenario(
        "delete-then-other", _recorded(SMALL, None), _delete, (TINY,), (SMALL, None), len(TINY),
        OnDelete.DELETE, between_lives=_file(TINY),
    ),
    Scenario(
        "delete-then-back", _recorded(SMALL, None), _delete, (SMALL,), (None,), len(SMALL),
        OnDelete.DELETE, between_lives=_file(SMALL),
    ),
)  # fmt: skip

"""Content that the store has already: copies, and donors of parts."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    FilePaused,
    PartCorrupt,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import FileRef, ObjectInfo, ObjectMeta, Receipt
from syncd.core.parts import StoreLimits
from syncd.core.plan import Copy, Outcome
from syncd.sources.chunks import Cutter
from syncd.sources.fingerprint import of_bytes
from syncd.state.audits import Unlike
from syncd.storage.base import Pages
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.reuse import Listing
from syncd.transfer.upload.part_sender import COPY
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import Running, wait_until
from tests.unit.transfer.multipart import CONTENT, PARTS, interrupted, sent_parts


def changed(rig: Rig, content: bytes) -> FakeStore:
    """`big` is in the store; then its content becomes `content`."""
    rig.write("big", CONTENT)
    rig.sync("big")
    rig.write("big", content)
    rig.fake.reset_counters()
    return rig.fake


def test_only_the_changed_part_of_a_file_is_sent(rig: Rig) -> None:
    """A change in the middle: the store copies the other parts from the object that it has."""
    other = bytearray(CONTENT)
    other[2 * PART] ^= 1
    store = changed(rig, bytes(other))

    outcome = rig.sync("big")

    assert sent_parts(store) == [3]
    assert store.objects["p/big"].data == bytes(other)
    assert outcome.bytes_sent == PART


def test_only_the_tail_of_an_appended_file_is_sent(rig: Rig) -> None:
    """A log that grew: everything but its last parts is copied."""
    longer = CONTENT + b"and more of it"
    store = changed(rig, longer)

    rig.sync("big")

    assert min(sent_parts(store)) == PARTS
    assert store.objects["p/big"].data == longer


def test_a_copy_of_a_part_that_cannot_be_proven_is_sent(tmp_path: Path) -> None:
    """ETags that are the MD5 of nothing prove nothing: then every part is sent."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, random_etags=True))
    store = changed(rig, CONTENT + b"more")

    rig.sync("big")

    assert sent_parts(store) == list(range(1, PARTS + 2))
    assert store.objects["p/big"].data == CONTENT + b"more"
    rig.close()


def test_a_store_that_cannot_copy_parts_gets_them_sent(rig: Rig) -> None:
    """NotImplemented is asked for once or twice, not a failure."""
    store = changed(rig, CONTENT + b"more")
    store.fail("upload_part_copy", StoreRefused("no", status=501, code="NotImplemented"), times=None)

    rig.sync("big")

    assert store.objects["p/big"].data == CONTENT + b"more"
    assert store.calls["upload_part_copy"] <= 3


FAILURES = [
    StoreUnavailable("broken", status=500, outcome_unknown=True),
    StoreUnavailable("gave up", status=504, outcome_unknown=True),
    StoreUnavailable("slow down", status=503),
    StoreRefused("no", status=501, code="NotImplemented"),
    StoreRefused("no", status=403, code="AccessDenied"),
    StoreRefused("no such object", status=404, code="NoSuchKey"),
    StoreRefused("odd", status=400, code="InvalidRequest"),
    AccessRefused("bad signature", status=403, code="SignatureDoesNotMatch"),
    PreconditionFailed("another", status=412),
    PartCorrupt("other bytes"),
]


@pytest.mark.parametrize("failure", [*FAILURES, StoreUnavailable("cut", outcome_unknown=True)], ids=str)
@pytest.mark.parametrize("verb", ["copy_object", "upload_part_copy", "head_object"])
def test_where_a_shortcut_fails_the_content_is_sent_at_once(rig: Rig, verb: str, failure: StoreError) -> None:
    """Whatever the failure is; and the verb is left alone, unless it was about the one object."""
    store = changed(rig, CONTENT + b"more")
    rig.write("small", b"hello")
    rig.sync("small")
    store.fail(verb, failure, times=None)
    rig.write("twin", b"hello")

    rig.sync("big")
    rig.sync("twin")
    calls = store.calls[verb]
    rig.restart()
    rig.write("another", b"hello")
    rig.sync("another")

    assert store.objects["p/big"].data == CONTENT + b"more"
    assert store.objects["p/twin"].data == store.objects["p/another"].data == b"hello"
    about_the_object = failure.status in (404, 412)
    assert verb != "copy_object" or (store.calls[verb] > calls) == about_the_object


def test_a_store_that_cannot_copy_is_asked_again_after_an_hour(rig: Rig) -> None:
    """It may have learned it; until then nothing is asked in vain."""
    rig.write("a", b"hello")
    rig.sync("a")
    rig.fake.fail("copy_object", StoreRefused("no", status=501), times=1)
    for number, copies in ((1, 1), (2, 1)):
        rig.write(f"b{number}", b"hello")
        rig.sync(f"b{number}")
        assert rig.fake.calls["copy_object"] == copies
    now_ns = time.time_ns()
    rig.uploader.shortcuts._now_ns = lambda: now_ns + 3601 * 10**9
    rig.write("b3", b"hello")
    rig.sync("b3")
    assert rig.fake.calls["copy_object"] == 2
    assert rig.uploader.shortcuts.works("copy objects")


@pytest.mark.parametrize("failure", [each for each in FAILURES if each.status != 503], ids=str)
def test_where_an_object_cannot_be_asked_for_it_is_sent(rig: Rig, failure: StoreError) -> None:
    """Keys may be allowed to put and to list, and not to read; after a loss of the state all is asked for."""
    rig.know(reconciling=True)
    rig.fake.fail("head_object", failure, times=None)
    rig.write("a", b"hello")

    rig.sync("a")

    assert rig.fake.objects["p/a"].data == b"hello"


def test_an_object_replaced_behind_our_back_lends_no_part(tmp_path: Path) -> None:
    """Another program's object under our key, on a server that ignores conditions: nothing of it is taken."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, ignores_conditions=True))
    store = changed(rig, CONTENT + b"more")
    other = CONTENT[::-1]
    store.put_object("p/big", other, ObjectMeta(of_bytes(other), 0))

    rig.sync("big")

    assert store.objects["p/big"].data == CONTENT + b"more"
    rig.close()


def test_a_twin_too_large_to_copy_whole_is_copied_in_parts(tmp_path: Path) -> None:
    """Beyond the largest single copy the parts are copied, and no byte is sent."""
    rig = Rig(tmp_path, store=FakeStore(replace(SMALL_LIMITS, max_put_size=PART)))
    rig.write("big", CONTENT)
    rig.sync("big")
    (rig.folder / "big").rename(rig.folder / "renamed")
    rig.fake.reset_counters()

    rig.sync("renamed")

    assert sent_parts(rig.fake) == []
    assert rig.fake.objects["p/renamed"].data == CONTENT
    rig.close()


def _overwrite(store: FakeStore, key: str, data: bytes) -> None:
    """As another program would, with a client of its own."""
    store.put_object(key, data, ObjectMeta(of_bytes(data), mtime_ns=0))


def test_a_renamed_file_is_copied_inside_the_store(rig: Rig) -> None:
    """Content that the store has under another key is copied there, and no byte of it is sent."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    (rig.folder / "a.txt").rename(rig.folder / "b.txt")
    sent = rig.fake.bytes_received

    outcome = rig.sync("b.txt")

    assert isinstance(outcome.action, Copy)
    assert rig.fake.objects["p/b.txt"].data == b"hello"
    assert rig.fake.bytes_received == sent


def test_a_copy_whose_source_was_replaced_behind_our_back_is_sent_instead(rig: Rig) -> None:
    """Where the store's object is not the one that we recorded, it is not copied."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    _overwrite(rig.fake, "p/a.txt", b"other")
    rig.write("b.txt", b"hello")

    rig.sync("b.txt")

    assert rig.fake.objects["p/b.txt"].data == b"hello"


def test_a_copy_from_a_store_that_ignores_conditions_is_still_right(tmp_path: Path) -> None:
    """Some servers ignore if-match: a source replaced after the look is noticed afterwards."""
    store = FakeStore(SMALL_LIMITS, ignores_conditions=True)
    rig = Rig(tmp_path, store=store)
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    store.before("copy_object", lambda call: _overwrite(store, "p/a.txt", b"other"))
    rig.write("b.txt", b"hello")

    rig.sync("b.txt")

    assert store.objects["p/b.txt"].data == b"hello"
    rig.close()


@pytest.mark.parametrize(
    ("random_etags", "has"),
    [
        (False, "what it had"),
        (True, "what it had"),
        (False, "nothing"),
        (True, "nothing"),
        (False, "another object"),  # with the metadata of the copy, so that its ETag has to tell
    ],
)
def test_a_copy_that_a_store_only_claims_to_have_made_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_etags: bool, has: str
) -> None:
    """What was there, or came there, has the size of the copy. The verb is left alone for a while."""
    store = FakeStore(SMALL_LIMITS, random_etags=random_etags)
    rig = Rig(tmp_path, store=store)
    for name, content in (("a.txt", b"hello"), ("b.txt", b"wrong")):
        rig.write(name, content)
        rig.sync(name)
    rig.write("b.txt", b"hello")
    claims = 0

    def copy_object(source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        nonlocal claims
        claims += 1
        if has == "another object":
            store.put_object(key, b"other", meta)
        if has == "nothing":
            del store.objects[key]
        return Receipt(key, store.objects[source_key].etag)

    monkeypatch.setattr(store, "copy_object", copy_object)

    for name in ("b.txt", "c.txt"):
        rig.write(name, b"hello")
        rig.sync(name)
        assert store.objects[f"p/{name}"].data == b"hello"
    assert claims == 1
    rig.close()


def test_files_that_are_each_others_twin_do_not_wait_for_one_another(rig: Rig) -> None:
    """Two files that swapped their content at once, worked on by two threads, both end up right."""
    rig.write("a", b"aaaa")
    rig.write("b", b"bbbb")
    rig.sync("a")
    rig.sync("b")
    for _ in range(20):
        one, two = (rig.folder / "a").read_bytes(), (rig.folder / "b").read_bytes()
        rig.write("a", two)
        rig.write("b", one)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(rig.sync, ("a", "b"), timeout=30))
        assert rig.fake.objects["p/a"].data == two
        assert rig.fake.objects["p/b"].data == one


LOGS = ["log", "log.1", "log.2", "log.3"]


def carried(rig: Rig, order: list[str]) -> None:
    """As the workers do it: a file that has to wait comes again after the others."""
    dirty = list(order)
    rig.engine.heirs.siblings = lambda ref: [rig.ref(name) for name in dirty]
    for _ in range(len(order) ** 2):
        if not dirty:
            return
        try:
            rig.sync(dirty[0])
        except FileChanged:
            dirty.append(dirty[0])
        del dirty[0]
    raise AssertionError(f"they wait for each other: {dirty}")


def rotated(rig: Rig, *, circle: bool) -> dict[str, bytes]:
    """Four logs are in the store and then take the next name each; what the names hold then."""
    for name in LOGS:
        rig.write(name, name.encode())
        rig.sync(name)
    last = rig.folder / LOGS[-1]
    kept = last.rename(rig.folder.with_name("kept"))
    for name, following in reversed(list(pairwise(LOGS))):
        (rig.folder / name).rename(rig.folder / following)
    if circle:
        kept.rename(rig.folder / "log")
    else:
        kept.unlink()
        rig.write("log", b"new")  # often with the inode that has just become free
    rig.fake.reset_counters()
    return {f"p/{name}": (rig.folder / name).read_bytes() for name in LOGS}


@pytest.mark.parametrize("order", list(permutations(LOGS))[::5])
@pytest.mark.parametrize("circle", [False, True])
def test_names_that_moved_on_are_copied_from_the_end(rig: Rig, order: tuple[str, ...], circle: bool) -> None:
    """Log rotation sends only what is new, whatever name comes first; in a circle one of them is sent."""
    expected = rotated(rig, circle=circle)
    carried(rig, list(order))
    assert {key: found.data for key, found in rig.fake.objects.items()} == expected
    assert (rig.fake.calls["copy_object"], rig.fake.calls["put_object"]) == (3, 1)


@pytest.mark.parametrize("set_back_seconds", [0, 86400 * 365])
def test_no_file_waits_for_long_for_the_one_that_had_its_name(rig: Rig, set_back_seconds: int) -> None:
    """A log that stays open under its new name for minutes does not hold up its successor, nor a clock."""
    rotated(rig, circle=False)
    rig.engine.heirs.siblings = lambda ref: [rig.ref("log.1")]
    with pytest.raises(FileChanged, match="is copied first"):
        rig.sync("log")
    began = rig.now_ns() - set_back_seconds * 10**9
    rig.now_ns = lambda: began
    with pytest.raises(FileChanged, match="is copied first"):
        rig.sync("log")
    rig.now_ns = lambda: began + 100 * 10**9
    rig.sync("log")
    assert rig.fake.objects["p/log"].data == b"new"


def test_a_twin_that_is_gone_where_absence_looks_like_a_refusal_is_not_copied(rig: Rig) -> None:
    """The object that was to be copied is gone, and its HEAD is 403: the file is sent."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    del rig.fake.objects["p/a.txt"]
    rig.fake.fail("head_object", StoreRefused("access is denied", status=403), times=None)
    rig.write("b.txt", b"hello")

    rig.sync("b.txt")

    assert rig.fake.objects["p/b.txt"].data == b"hello"


# ---- a listing -------------------------------------------------------------------------------------------

MD5 = "0123456789abcdef" * 2


class Shop:
    """A store that has the even ones of many keys, and lists them by the thousand."""

    def __init__(self, most: int = 100_000, size: int = 1000) -> None:
        self.most, self.size = most, size
        self.fails: list[StoreError] = []
        self.pages = 0
        self.now = 0.0

    @staticmethod
    def key(number: int) -> str:
        return f"p/{number:06d}"

    def _page(self, after: int | None) -> tuple[list[ObjectInfo], int | None]:
        if self.fails:
            raise self.fails.pop()
        self.pages += 1
        first = after or 0
        end = min(first + 2 * self.size, self.most)
        return [ObjectInfo(self.key(each), each, MD5) for each in range(first, end, 2)], (
            end if end < self.most else None
        )

    def listing(self, *, checked: bool = True) -> Listing:
        """What is under the first key was looked at already."""
        listing = Listing(Pages(self._page), Heartbeat(), lambda: self.now)
        if checked:
            assert listing.find(self.key(0)) is None
        return listing


def test_a_listing_says_what_there_is_and_what_there_is_not() -> None:
    """In the order of the keys, or nearly, it costs its pages and no question; the first object costs one."""
    shop = Shop(most=9_000)
    listing = shop.listing(checked=False)
    listed = [listing.find(shop.key(each ^ 3)) for each in range(9_100)]
    assert listed.count(None) == 1
    there = [found.info for found in listed if found is not None and found.info is not None]
    assert [(info.key, info.md5) for info in there[:2]] == [
        (shop.key(each), bytes.fromhex(MD5)) for each in (0, 6)
    ]
    assert len(there) == 4_500 - 1
    assert shop.pages == 5


def test_a_listing_does_not_run_far_ahead_for_one_file() -> None:
    """Nor does it keep what lies far behind: such keys are asked for."""
    shop = Shop()
    listing = shop.listing()
    assert listing.find(shop.key(99_000)) is None
    assert shop.pages <= 6
    assert listing.find(shop.key(1)) is not None
    for each in range(0, 60_000, 1_000):
        assert listing.find(shop.key(each)) is not None
    assert listing.find(shop.key(1)) is None
    assert shop.pages <= 40


def test_a_listing_is_not_believed_when_it_is_old_or_closed() -> None:
    """What it said may not be so any more, nor what the store sent along with it."""
    shop = Shop(most=3_000)
    listing = shop.listing()
    assert listing.find(shop.key(10)) is not None
    shop.now += 1_000.0
    assert listing.find(shop.key(12)) is None
    assert listing.find(shop.key(2_600)) is None
    listing = shop.listing()
    listing.close()
    assert listing.find(shop.key(10)) is None


def test_a_page_that_failed_is_asked_for_again() -> None:
    """Nothing is left out, wherever in a page it failed."""
    shop = Shop(size=300)
    listing = shop.listing(checked=False)
    for number in range(1, 10):
        shop.fails.append(StoreUnavailable("no"))
        assert listing.find(shop.key(2_000 * number)) is None
        shop.fails.clear()
        assert listing.find(shop.key(2_000 * number)) is None  # it is not asked at once
        shop.now += 61.0
    found = [listing.find(shop.key(each)) for each in range(30_000)]
    assert sum(each is not None and each.info is not None for each in found) == 15_000 - 1


def test_a_listing_without_order_says_nothing() -> None:
    """A store may list otherwise; what a gap passes by may follow."""
    infos = [ObjectInfo(key, 1, MD5) for key in ("p/a", "p/c", "p/b", "p/d")]
    listing = Listing(iter(infos), Heartbeat(), lambda: 0.0)
    assert [listing.find(f"p/{name}") for name in "abcd"] == [None] * 4


def blocks(*numbers: int) -> bytes:
    """A file of blocks, each told by its number."""
    return b"".join(bytes([number]) * PART for number in numbers)


@pytest.mark.parametrize(
    ("there", "new", "sent"),
    [
        (range(1, 9), (1, 2, 3, 4, 5, 99, 7, 8), 1),
        (range(1, 9), (99, 2, 3, 4, 5, 6, 7, 8), 1),
        (range(1, 9), (1, 2, 99), 1),
        (range(1, 9), (*range(1, 9), 99, 98), 2),
        (range(1, 9), range(2, 10), 8),  # at other places
        ((0, 0, 0, 0, 5), (0, 0, 0, 0, 6), 5),  # what a file has several times tells nothing
    ],
)
@pytest.mark.parametrize("way", ["copy", "rename"])
def test_a_changed_copy_finds_its_donor_by_its_blocks(
    rig: Rig, there: tuple[int, ...], new: tuple[int, ...], sent: int, way: str
) -> None:
    """Whatever its name, also if the file was renamed and not copied; only what differs is sent."""
    rig.write("dir/first", blocks(*there))
    rig.sync("dir/first")
    if way == "rename":
        (rig.folder / "dir/first").rename(rig.folder / "second")
    rig.write("second", blocks(*new))
    done = rig.sync("second")
    assert rig.fake.objects["p/second"].data == blocks(*new)
    assert done.bytes_sent == sent * PART


def test_the_donor_is_the_file_with_most_blocks(rig: Rig) -> None:
    """Its own last version where that has half of them; never one that is known to have lost its content."""
    for name, content in (("other", range(1, 9)), ("mine", (1, *range(90, 97)))):
        rig.write(name, blocks(*content))
        rig.sync(name)
    rig.write("mine", blocks(*range(1, 8), 99))
    assert rig.sync("mine").bytes_sent == PART
    row = rig.state.recorded(rig.ref("other"))
    assert row is not None
    rig.state.audits.keep("docs", [Unlike(rig.ref("other"), row.etag, "rotten", True, row.etag)])
    rig.write("third", blocks(*range(1, 8), 80, 81))
    assert rig.sync("third").bytes_sent == 2 * PART  # of `mine`
    (rig.folder / "mine").unlink()
    rig.state.forget(rig.ref("mine"))
    rig.state.forget(rig.ref("third"))
    rig.write("fourth", blocks(*range(1, 8), 70))
    assert rig.sync("fourth").bytes_sent == 8 * PART


# ---- a second look ---------------------------------------------------------------------------------------

LONG = random.Random(1).randbytes(9 * PART)


def inserted(times: int) -> bytes:
    return LONG[:3] + bytes(times) + LONG[3:]


def test_from_the_second_insertion_on_only_what_is_new_is_sent(rig: Rig) -> None:
    """The first one is sent whole and tells what the content is made of; a touch does not forget that."""
    sent = []
    for times in range(4):
        rig.write("big", inserted(times))
        sent.append(rig.sync("big").bytes_sent)
        assert rig.fake.objects["p/big"].data == inserted(times)
        rig.write("big", inserted(times))
        assert rig.sync("big").bytes_sent == 0
        assert bool(rig.state.chunks(rig.ref("big"))) == (times > 0)
    assert sent[:2] == [len(inserted(0)), len(inserted(1))]
    assert max(sent[2:]) <= 2 * PART


def test_a_change_in_place_is_found_by_blocks(rig: Rig) -> None:
    """Also where chunks are known: the larger parts are, if they spare as much."""
    for times in range(2):
        rig.write("big", inserted(times))
        rig.sync("big")
    rig.fake.reset_counters()
    rig.write("big", inserted(1)[:-1] + b"?")

    assert rig.sync("big").bytes_sent <= PART
    assert rig.fake.objects["p/big"].data == inserted(1)[:-1] + b"?"
    assert rig.fake.calls["upload_part"] + rig.fake.calls["upload_part_copy"] == 10


@pytest.mark.parametrize("what", ["chunks of other content", "another object", "ETags that prove nothing"])
def test_what_the_record_says_of_chunks_is_no_proof(tmp_path: Path, what: str) -> None:
    """The ETag of each copied part decides; what it does not prove is sent."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, random_etags=what.startswith("ETags")))
    for times in range(2):
        rig.write("big", inserted(times))
        rig.sync("big")
    if what.startswith("chunks"):
        cutter = Cutter(rig.engine._carrier._witness, PART)
        cutter.update(memoryview(bytes(1) + inserted(2)))
        grid = rig.state.part_digests(rig.ref("big"))
        row = rig.state.recorded(rig.ref("big"))
        assert grid is not None
        assert row is not None
        rig.state.commit(rig.ref("big"), row, part_digests=replace(grid, chunks=cutter.ended()))
    elif what.startswith("another"):
        rig.fake.tamper("p/big", LONG[::-1])
    rig.write("big", inserted(2))

    assert rig.sync("big").bytes_sent == len(inserted(2))
    assert rig.fake.objects["p/big"].data == inserted(2)
    assert rig.fake.calls["upload_part_copy"]
    rig.close()


def test_a_file_that_changes_while_it_is_read_again_is_not_completed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first look saw is what the record would say."""
    for times in range(2):
        rig.write("big", inserted(times))
        rig.sync("big")
    rig.write("big", inserted(2))
    donor = rig.engine._carrier.reuse.donor

    def changing(*asked: Any) -> Any:
        rig.write("big", inserted(2)[::-1])
        return donor(*asked)

    monkeypatch.setattr(rig.engine._carrier.reuse, "donor", changing)
    with pytest.raises(FileChanged):
        rig.sync("big")
    assert rig.fake.objects["p/big"].data == inserted(1)


def test_an_upload_goes_on_with_its_part_size(rig: Rig) -> None:
    """Whatever the configuration says by now, nothing that was acknowledged is sent again."""
    interrupted(rig, after=3)
    rig.plain(part_size=2 * PART)
    rig.restart()

    rig.sync("big")

    assert min(sent_parts(rig.fake)) > 3
    assert rig.fake.objects["p/big"].data == CONTENT


# ---- identical files at once -----------------------------------------------------------------------------

NAMES = ("one", "two", "three", "four")


def at_once(rig: Rig, go: threading.Event, waiting: int) -> list[Running[Outcome]]:
    """Four identical files, each in a thread of its own, of which so many come to wait for another one before
    the first part of any may be sent."""
    for name in NAMES:
        rig.write(name, CONTENT)
    running = [Running(rig.sync, name) for name in NAMES]
    changed = rig.engine._carrier._contents._changed
    wait_until("they wait", lambda: len(changed._waiters) == waiting)  # type: ignore[attr-defined]
    go.set()
    return running


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(SMALL_LIMITS, id="fingerprint first"),
        pytest.param(replace(SMALL_LIMITS, completes_with_meta=True), id="sent while it is read"),
        pytest.param(replace(SMALL_LIMITS, max_put_size=PART), id="too large to be copied whole"),
    ],
)
def test_of_identical_new_files_one_is_sent(tmp_path: Path, limits: StoreLimits) -> None:
    """Also where all come at once; the store copies the others."""
    rig, go = Rig(tmp_path, store=FakeStore(limits)), threading.Event()
    rig.fake.before("upload_part", lambda call: go.wait(30))

    outcomes = [each.result() for each in at_once(rig, go, 3)]

    assert sent_parts(rig.fake) == list(range(1, PARTS + 1))
    assert sorted(outcome.bytes_sent for outcome in outcomes) == [0, 0, 0, len(CONTENT)]
    assert {key: found.data for key, found in rig.fake.objects.items()} == dict.fromkeys(
        [f"p/{name}" for name in NAMES], CONTENT
    )
    rig.close()


def test_if_the_first_of_identical_files_fails_the_next_is_sent(tmp_path: Path) -> None:
    """At once, and only that; the store copies the others, and the first one when it is tried again."""
    rig, go = Rig(tmp_path, concurrency=1), threading.Event()
    rig.fake.before("upload_part", lambda call: go.wait(30))
    rig.fake.fail("upload_part", StoreUnavailable("cut"), when=lambda call: call.number == 3)

    failed = []
    for name, each in zip(NAMES, at_once(rig, go, 3), strict=True):
        try:
            each.result()
        except StoreUnavailable:
            failed.append(name)

    assert len(failed) == 1
    assert sent_parts(rig.fake) == sorted([1, 2, 3, *range(1, PARTS + 1)])
    assert rig.sync(failed[0]).bytes_sent == 0
    assert {found.data for found in rig.fake.objects.values()} == {CONTENT}
    assert len(rig.fake.objects) == len(NAMES)
    rig.close()


def test_an_identical_file_that_is_paused_while_it_waits_is_not_copied(tmp_path: Path) -> None:
    """Its turn comes when the pause is over."""
    rig, go = Rig(tmp_path), threading.Event()
    held: set[FileRef] = set()
    rig.progress.is_held = held.__contains__
    rig.fake.before("upload_part", lambda call: go.wait(30))
    for name in NAMES[:2]:
        rig.write(name, CONTENT)
    first = Running(rig.sync, "one")
    wait_until("it is sent", lambda: rig.fake.calls["upload_part"])
    second = Running(rig.sync, "two")
    changed = rig.engine._carrier._contents._changed
    wait_until("it waits", lambda: len(changed._waiters) == 1)  # type: ignore[attr-defined]
    held.add(rig.ref("two"))
    go.set()
    assert first.result().bytes_sent == len(CONTENT)
    with pytest.raises(FilePaused):
        second.result()
    assert rig.fake.objects.keys() == {"p/one"}
    held.clear()
    assert rig.sync("two").bytes_sent == 0
    rig.close()


def test_where_the_store_does_not_copy_identical_files_are_sent_at_once(tmp_path: Path) -> None:
    """Nothing is gained by waiting, and small files never wait."""
    rig = Rig(tmp_path, concurrency=4)
    together = threading.Barrier(4, timeout=30)
    rig.fake.before("create_multipart_upload", lambda call: together.wait())
    rig.fake.before("put_object", lambda call: together.wait())
    rig.uploader.shortcuts.failed(COPY, None)
    for content in (CONTENT, CONTENT[:PART]):
        for name in NAMES:
            rig.write(name, content)
        for each in [Running(rig.sync, name) for name in NAMES]:
            assert each.result().bytes_sent == len(content)
    rig.close()

"""The probes of `syncd check` find out the truth about a store, and leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.cli.check import probes
from syncd.cli.check.command import check_basics, check_thoroughly
from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.storage.base import Clock, ObjectStore
from syncd.storage.dir.store import DirStore
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings, KeySettings
from tests.support.bos_auth import Account
from tests.support.bos_faults import Fault
from tests.support.bos_server import BosServer
from tests.support.faults import Call
from tests.support.store import SMALL_LIMITS, FakeStore

ScanResults = dict[str, tuple[bool | None, str]]


def ask(examine: Callable[..., None], store: ObjectStore, prefix: str = "cam/") -> ScanResults:
    """What the check reports, by name."""
    found: ScanResults = {}

    def report(name: str, passed: bool | None, detail: str) -> None:
        assert name not in found
        assert detail
        found[name] = (passed, detail)

    examine(store, prefix, report)
    return found


def marks(found: ScanResults, *names: str) -> dict[str, bool | None]:
    """Passed, failed or remarked, by name; all of them, or those named."""
    return {name: found[name][0] for name in (names or found)}


EVERYTHING = ["reachable", "writable", *(name for name, _ in probes.PROBES), "cleaned up"]


def test_basic_puts_looks_and_deletes(fake_store: FakeStore) -> None:
    """A store that works passes with four kinds of request, and nothing is left."""
    assert marks(ask(check_basics, fake_store)) == {"reachable": True, "writable": True}
    assert set(fake_store.calls) == {"put_object", "head_object", "get_object", "delete_object"}
    assert fake_store.objects == {}
    assert all(call.key.startswith("cam/syncd-check-") for call in fake_store.log)


@pytest.mark.parametrize("error", [AccessRefused("bad key"), StoreUnavailable("down")])
@pytest.mark.parametrize("verb", ["head_object", "put_object", "get_object"])
def test_what_is_about_the_whole_store_goes_up(
    fake_store: FakeStore, verb: str, error: AccessRefused | StoreUnavailable
) -> None:
    """The command turns these errors into its exit code; what was made before is removed."""
    fake_store.fail(verb, error)
    with pytest.raises(type(error)):
        ask(check_basics, fake_store)
    assert fake_store.objects == {}


def test_basic_says_what_is_not_allowed(fake_store: FakeStore) -> None:
    """A refused put fails the check; a refused delete is a remark that says what it is needed for."""
    fake_store.fail("put_object", StoreRefused("no", code="AccessDenied"))
    found = ask(check_basics, fake_store)
    assert marks(found) == {"reachable": True, "writable": False}
    assert "AccessDenied" in found["writable"][1]
    fake_store.fail("delete_object", StoreRefused("no", code="AccessDenied"))
    found = ask(check_basics, fake_store)
    assert marks(found) == {"reachable": True, "writable": None}
    assert "on_delete" in found["writable"][1]


def test_thorough_passes_on_a_store_that_does_everything(fake_store: FakeStore) -> None:
    """Every probe is asked and passes or remarks; nothing fails and nothing is left."""
    found = ask(check_thoroughly, fake_store)
    assert list(found) == EVERYTHING
    assert [name for name, (passed, _) in found.items() if passed is False] == []
    assert fake_store.objects == {}
    assert fake_store.uploads == {}


def test_thorough_tells_what_a_store_does_otherwise() -> None:
    """Ignored conditions and a repeated complete that succeeds are remarks, not failures."""
    store = FakeStore(SMALL_LIMITS, ignores_conditions=True, completes_again=True, random_etags=True)
    found = ask(check_thoroughly, store)
    assert marks(found, "conditional copy", "part copy") == {"conditional copy": None, "part copy": None}
    assert found["complete twice"] == (True, "the second time it succeeds again")
    assert [name for name, (passed, _) in found.items() if passed is False] == []


def test_thorough_stops_when_the_store_fails_and_cleans_up(fake_store: FakeStore) -> None:
    """An error about the whole store ends it; what was made is removed, or named."""
    down = StoreUnavailable("down")
    fake_store.fail("list_parts", down)
    fake_store.before("list_parts", lambda call: fake_store.fail("head_object", down, times=1))
    with pytest.raises(StoreUnavailable):
        ask(check_thoroughly, fake_store)
    assert fake_store.objects == {}
    assert fake_store.uploads == {}


_VERBS = [
    "put_object", "get_object", "head_object", "delete_object", "copy_object", "create_multipart_upload",
    "upload_part", "upload_part_copy", "list_parts", "complete_multipart_upload", "abort_multipart_upload",
    "list_multipart_uploads",
]  # fmt: skip
_ODD = [StoreUnavailable("odd"), AccessRefused("odd"), StoreRefused("odd"), PartCorrupt("odd")]
_REFUSALS = [*_ODD[2:], PartsRefused("odd"), PreconditionFailed("odd"), UploadGone("odd")]


@pytest.mark.parametrize("verb", _VERBS)
@pytest.mark.parametrize("error", _ODD, ids=lambda error: type(error).__name__)
def test_thorough_goes_on_after_an_odd_answer(fake_store: FakeStore, verb: str, error: StoreError) -> None:
    """Whatever one request ends in, every other probe is asked, and says what it says without that."""
    ordinary = marks(ask(check_thoroughly, fake_store))
    odd = []

    def is_a_probe(call: Call) -> bool:
        """The last request of this verb that a probe sends, not the removal at the end."""
        if odd or "/wrong" in call.key or "/writable" in call.key or "/nothing" in call.key:
            return False
        odd.append(call.key)
        return True

    fake_store.fail(verb, error, when=is_a_probe)
    found = ask(check_thoroughly, fake_store)
    assert odd
    assert list(found) == EVERYTHING
    differing = {name for name in EVERYTHING if marks(found)[name] != ordinary[name]}
    assert len(differing) <= 1
    assert all("odd" in found[name][1] or found[name][0] is not True for name in differing)
    assert fake_store.objects == {}


def test_a_name_that_fails_is_a_remark_beside_the_others(fake_store: FakeStore) -> None:
    """One name that the store cannot take, by whatever answer."""
    fake_store.fail("put_object", StoreUnavailable("500"), when=lambda call: "//" in call.key, times=None)
    fake_store.fail("put_object", AccessRefused("403"), when=lambda call: call.key.endswith("."), times=None)
    found = ask(check_thoroughly, fake_store)
    assert list(found) == EVERYTHING
    assert found["odd names"] == (None, "'double//slash': 500; 'trailing dot.': 403")
    assert [name for name, (passed, _) in found.items() if passed is False] == []


def test_a_name_that_can_be_neither_put_nor_deleted_leaves_nothing(fake_store: FakeStore) -> None:
    """Where something before the store answers, nothing says that there was no put; the list does."""
    odd = StoreUnavailable("404", status=404, outcome_unknown=True)
    for verb in ("put_object", "delete_object", "head_object"):
        fake_store.fail(verb, odd, when=lambda call: "\n" in call.key, times=None)
    found = ask(check_thoroughly, fake_store)
    assert [name for name, (passed, _) in found.items() if passed is False] == []
    fake_store.fail("list_objects", odd, times=None)
    assert "line\nfeed" in ask(check_thoroughly, fake_store)["cleaned up"][1]


@pytest.mark.parametrize("error", _REFUSALS, ids=lambda error: type(error).__name__)
def test_any_refusal_of_what_is_wrong_is_right(fake_store: FakeStore, error: StoreError) -> None:
    """Servers have many words for it: a wrong checksum is BadDigest with one, InvalidPart with another."""
    fake_store.fail("complete_multipart_upload", error, when=lambda call: "/wrong " in call.key, times=None)
    found = ask(check_thoroughly, fake_store)
    assert found["wrong parts"][0] is True
    assert found["wrong checksum"][0] is not False


def test_a_store_that_does_not_copy_is_no_bad_one(fake_store: FakeStore) -> None:
    """Content is sent instead."""
    for verb in ("copy_object", "upload_part_copy"):
        fake_store.fail(verb, StoreRefused("no", code="NotImplemented"), times=None)
    found = ask(check_thoroughly, fake_store)
    assert marks(found, "copy", "conditional copy", "part copy") == dict.fromkeys(
        ("copy", "conditional copy", "part copy")
    )
    assert [name for name, (passed, _) in found.items() if passed is False] == []


def test_what_cannot_be_removed_is_named(fake_store: FakeStore) -> None:
    """The operator has to remove it by hand."""
    fake_store.fail("delete_object", StoreRefused("no"), times=None)
    fake_store.fail("abort_multipart_upload", StoreRefused("no"), times=None)
    found = ask(check_thoroughly, fake_store)
    assert marks(found, "writable", "cleaned up") == {"writable": None, "cleaned up": False}
    told = found["writable"][1] + found["cleaned up"][1]
    assert [key for key in fake_store.objects if key not in told] == []


class Lying(FakeStore):
    """Says that all went well, and keeps something else."""

    def keeps(self, data: bytes) -> bytes:
        return data

    def complete_multipart_upload(self, key, upload_id, parts, meta):  # type: ignore[no-untyped-def]
        receipt = super().complete_multipart_upload(key, upload_id, parts, meta)
        self.tamper(key, self.keeps(self.objects[key].data))
        return receipt


@pytest.mark.parametrize(
    "keeps",
    [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: data[:-1] + bytes([data[-1] ^ 1])],
    ids=["shorter", "other at the start", "other at the end"],
)
def test_a_store_that_keeps_other_bytes_fails(keeps: Callable[[bytes], bytes]) -> None:
    """Size and samples of the content are compared, not the store's word."""
    store = Lying(SMALL_LIMITS)
    store.keeps = keeps  # type: ignore[method-assign]
    found = ask(check_thoroughly, store)
    names = ("multipart upload", "resume with a gap", "replacing a part", "part copy")
    assert marks(found, *names) == dict.fromkeys(names, False)
    assert found["overwriting"][0] is True


def test_probes_fail_one_by_one(fake_store: FakeStore) -> None:
    """Each broken promise fails its own probe and no other."""
    bench = probes.Bench(fake_store, "", lambda *found: None)
    fake_store.before("head_object", lambda call: fake_store.tamper(call.key, b""))
    assert probes.overwrite(bench)[0] is False
    fake_store.heal()
    fake_store.fail("list_parts", lambda call: StoreRefused("odd"))
    found: ScanResults = {}
    bench = probes.Bench(fake_store, "", lambda name, passed, text: found.update({name: (passed, text)}))
    bench.run("abort", probes.abort)
    assert marks(found) == {"abort": False}


def test_larger_parts_than_documented_are_told(fake_store: FakeStore) -> None:
    """A store that refuses even its documented minimum fails the probe, with what follows from that."""
    fake_store.fail("complete_multipart_upload", PartsRefused("small", too_small=True), times=None)
    bench = probes.Bench(fake_store, "", lambda *found: None)
    passed, detail = probes.smallest_part(bench)
    assert passed is False
    assert "learn" in detail


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    """A strict BOS server that takes parts of 100 KB and more."""
    with BosServer(tmp_path / "bos") as running:
        running.change({"require_md5": True})
        yield running


@pytest.fixture
def bos(server: BosServer) -> Iterator[ObjectStore]:
    """The BOS store on it."""
    settings = BosSettings(HttpSettings(server.url), "photos", keys=KeySettings("ak", "sk"))
    store = open_store(settings, StoreContext(Clock(time.time, lambda seconds: None, lambda: 0.5)))
    yield store
    store.close()


def test_thorough_on_bos_answers_the_open_questions(server: BosServer, bos: ObjectStore) -> None:
    """Everything passes, the details name the smallest part and the second complete, and nothing is left."""
    found = ask(check_thoroughly, bos)
    assert list(found) == EVERYTHING
    assert [name for name, (passed, _) in found.items() if passed is not True] == []
    assert "102400 bytes are taken" in found["smallest part"][1]
    assert found["complete twice"][1] == "the second time: 404 NoSuchUpload"
    assert "400 BadDigest" in found["wrong checksum"][1]
    assert "412 PreconditionFailed" in found["conditional copy"][1]
    assert server.contents("photos") == {"objects": {}, "uploads": {}}


def test_thorough_on_a_bos_of_the_older_documents(server: BosServer, bos: ObjectStore) -> None:
    """With a minimum of 5 MB nothing fails either: what the daemon sends is right for both."""
    server.change({"min_part_size": 5 * 10**6})
    found = ask(check_thoroughly, bos)
    assert [name for name, (passed, _) in found.items() if passed is not True] == []
    assert "5000000 bytes are taken" in found["smallest part"][1]


def test_wrong_keys_end_the_check_of_bos(server: BosServer, bos: ObjectStore) -> None:
    """The first request says it, by name, although a refused HEAD has no body."""
    server.accounts["ak"] = Account("ak", "other")
    with pytest.raises(AccessRefused) as info:
        ask(check_basics, bos)
    assert info.value.credentials
    assert info.value.code == "SignatureDoesNotMatch"


def test_a_lost_answer_in_the_check_leaves_nothing(server: BosServer, bos: ObjectStore) -> None:
    """A put whose answer was lost has happened: the object is found, and removed like any other."""
    server.faults.add(Fault("lose_answer", op="PutObject", times=-1))
    assert ask(check_basics, bos)["writable"][0] is True
    assert server.contents("photos") == {"objects": {}, "uploads": {}}


def test_thorough_on_a_directory(tmp_path: Path) -> None:
    """The directory store keeps every promise, and its directory holds what it held before."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    store = DirStore(DirSettings(str(mirror)))
    assert store.head_object("nothing") is None  # the store marks its directory as its own
    before = sorted(path for path in mirror.rglob("*") if path.is_file())
    found = ask(check_thoroughly, store)
    store.close()
    assert {name: text for name, (passed, text) in found.items() if passed is False} == {}
    assert sorted(path for path in mirror.rglob("*") if path.is_file()) == before

"""The whole BOS store, from settings to sockets, against a strict server: refusals, recoveries, resumes."""

from __future__ import annotations

import hashlib
import random
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import (
    AccessRefused,
    PartsRefused,
    StoreError,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.storage.base import Clock, ObjectStore
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.settings import BosSettings, HttpSettings, KeySettings
from tests.support.bos_auth import Account
from tests.support.bos_faults import Fault
from tests.support.bos_server import BosServer
from tests.support.hostile import make_certificate
from tests.support.rig import Rig

MIB = 1 << 20
PART = 5 * MIB
META = ObjectMeta(Fingerprint(bytes(range(16)), 5), 1_600_000_000_123_456_789, "token", "text/plain")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    """As strict as it can be made: MD5 required, parts of 5 MiB at least."""
    with BosServer(tmp_path / "bos") as running:
        running.change({"require_md5": True, "min_part_size": PART})
        yield running


@pytest.fixture
def open_bos(server: BosServer) -> Iterator[Callable[..., ObjectStore]]:
    """Opens stores on the server; what is not given is right. They are closed after the test."""
    opened: list[ObjectStore] = []

    def open_one(**settings: Any) -> ObjectStore:
        endpoint = settings.pop("endpoint", server.url)
        proxy = settings.pop("proxy", "")
        bucket = settings.pop("bucket", "photos")
        keys = settings.pop("keys", KeySettings("ak", "sk"))
        trusted = settings.pop("ca_bundle", "")
        http = HttpSettings(endpoint, proxy, trusted, connect_seconds=10, read_seconds=10)
        context = StoreContext(Clock(time.time, lambda seconds: None, lambda: 0.5))
        opened.append(open_store(BosSettings(http, bucket, keys=keys, **settings), context))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_bos: Callable[..., ObjectStore]) -> ObjectStore:
    """A store with right settings."""
    return open_bos()


def refused(call: Callable[[], object]) -> StoreError:
    """The error that the call ends in."""
    with pytest.raises(StoreError) as info:
        call()
    return info.value


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no two parts share."""
    return random.Random(seed).randbytes(size)


# ---- the verbs -------------------------------------------------------------------------------------------


def test_a_multipart_upload_over_many_pages(server: BosServer, store: ObjectStore) -> None:
    """Parts in any order, one by part copy, listings of one entry a page, CRC-32 of the whole read back."""
    server.change({"page_size": 1})
    blocks = [noise(PART, 1), noise(PART, 2), b"tail"]
    upload = store.create_multipart_upload("k", META)
    parts = [store.upload_part("k", upload, n, memoryview(blocks[n - 1])) for n in (3, 1, 2)]
    listed = store.list_parts("k", upload)
    assert [(part.number, part.size) for part in listed] == [(1, PART), (2, PART), (3, 4)]
    assert [one.upload_id for one in store.list_multipart_uploads("k")] == [upload]
    parts.sort(key=lambda part: part.number)
    store.complete_multipart_upload("k", upload, parts, META)
    info = store.head_object("k")
    assert info is not None
    assert (info.size, info.crc32) == (2 * PART + 4, zlib.crc32(b"".join(blocks)))
    assert info.token == "token"
    second = store.create_multipart_upload("k2", META)
    copied = store.upload_part_copy("k2", second, 1, "k", PART, 2 * PART - 1, info.etag)
    assert copied.etag == hashlib.md5(blocks[1]).hexdigest()
    store.abort_multipart_upload("k2", second)
    store.abort_multipart_upload("k2", second)
    assert list(store.list_multipart_uploads("")) == []
    error = refused(lambda: store.upload_part("k2", second, 1, b"x"))
    assert isinstance(error, UploadGone)


# ---- wrong settings, and the way back from them ----------------------------------------------------------


def test_a_wrong_secret_says_so_and_a_new_key_file_mends_it(
    server: BosServer, open_bos: Callable[..., ObjectStore], tmp_path: Path
) -> None:
    """Keys are read again from their file: no restart is needed when the cause goes away."""
    (tmp_path / "id").write_text("ak\n")
    (tmp_path / "secret").write_text("wrong\n")
    keys = KeySettings(access_key_file=str(tmp_path / "id"), secret_key_file=str(tmp_path / "secret"))
    store = open_bos(keys=keys)
    for verb in (lambda: store.put_object("k", b"x", META), lambda: store.head_object("k")):
        error = refused(verb)
        assert isinstance(error, AccessRefused)
        assert error.credentials
        assert error.code == "SignatureDoesNotMatch"
        assert "check secret_access_key" in str(error)
        assert error.request_id
    (tmp_path / "secret").write_text("sk\n")
    store.put_object("k", b"hello", META)
    assert list(server.contents("photos")["objects"]) == ["k"]


def test_an_expired_session_token_says_so_and_recovers(
    server: BosServer, open_bos: Callable[..., ObjectStore], tmp_path: Path
) -> None:
    """Temporary keys expire in the midst of the work; a renewed token file is enough to go on."""
    server.accounts["tmp"] = Account("tmp", "s", "first", expires=time.time() - 1)
    (tmp_path / "token").write_text("first")
    keys = KeySettings("tmp", "s", session_token_file=str(tmp_path / "token"))
    store = open_bos(keys=keys)
    error = refused(lambda: store.put_object("k", b"x", META))
    assert isinstance(error, AccessRefused)
    assert error.credentials
    assert "token" in str(error)
    server.accounts["tmp"] = Account("tmp", "s", "second", expires=time.time() + 3600)
    (tmp_path / "token").write_text("second")
    store.put_object("k", b"x", META)


def test_path_style_refused_by_the_service_says_so(
    server: BosServer, open_bos: Callable[..., ObjectStore]
) -> None:
    """By the official name, through the server as proxy: path style is refused, virtual-host style works."""
    server.refuse_path_style = True
    way = {"endpoint": "http://bj.bcebos.com", "proxy": server.url}
    error = refused(lambda: open_bos(path_style=True, **way).put_object("k", b"x", META))
    assert isinstance(error, AccessRefused)
    assert not error.credentials
    assert "path_style" in str(error)
    open_bos(**way).put_object("a b/中", b"hello", META)
    assert server.log[-1].headers["host"] == "photos.bj.bcebos.com"
    assert server.contents("photos")["objects"]["a b/中"]["size"] == 5


@pytest.mark.parametrize("offset", [3600, -3600])
def test_a_wrong_clock_is_corrected_from_the_answer(
    server: BosServer, store: ObjectStore, offset: int
) -> None:
    """One request is refused; it is signed again with the server's time, and so are those that follow."""
    server.clock_offset = offset
    store.put_object("k", b"hello", META)
    store.put_object("l", b"hello", META)
    assert [seen.code for seen in server.log] == ["RequestTimeTooSkewed", "", ""]


def test_an_expired_signature_is_made_anew(server: BosServer, store: ObjectStore) -> None:
    """RequestExpired is repeated with a fresh signature, which the vendor's SDK fails to do."""
    server.faults.add(Fault("error", status=400, code="RequestExpired"))
    store.put_object("k", b"hello", META)
    assert [seen.status for seen in server.log] == [400, 200]


def test_https_is_verified(server: BosServer, open_bos: Callable[..., ObjectStore], tmp_path: Path) -> None:
    """A certificate that is not trusted is refused before a key is shown; one that is given is trusted."""
    pair = make_certificate(tmp_path)
    with BosServer(tmp_path / "tls", certificate=(pair.cert, pair.key)) as secure:
        error = refused(lambda: open_bos(endpoint=secure.url).put_object("k", b"x", META))
        assert isinstance(error, AccessRefused)
        assert not error.credentials
        assert secure.log == []
        open_bos(endpoint=secure.url, ca_bundle=pair.cert).put_object("k", b"hello", META)
        assert secure.contents("photos")["objects"]["k"]["size"] == 5


# ---- failures --------------------------------------------------------------------------------------------

PASSING = [
    Fault("error", status=429, code="RequestRateLimitExceeded"),
    Fault("error", status=500),
    Fault("error", status=502, code=""),
    Fault("html", status=502),
    Fault("error", status=503, code="SlowDown", headers={"Retry-After": "0"}),
    Fault("html", status=504),
    Fault("error", status=400, code="Http400"),
    Fault("error", status=400, code="RequestTimeout"),
    Fault("error", status=400, code="ReadBodyError"),
    Fault("error", status=400, code="BadDigest"),
    Fault("error", status=403, code="AccessDenied", message="the request rate is too high"),
    Fault("error_in_200"),
    Fault("cut_before_body"),
    Fault("cut_in_body", size=3),
    Fault("cut_after_body"),
    Fault("lose_answer"),
    Fault("empty_200"),
    Fault("wrong_etag"),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.code}")
@pytest.mark.parametrize("op", ["PutObject", "UploadPart"])
def test_what_passes_is_repeated(server: BosServer, store: ObjectStore, fault: Fault, op: str) -> None:
    """Every kind of passing failure of a body ends in one whole object after another try, or after a question
    where the store has done it and only its answer proves nothing.
    """
    upload = store.create_multipart_upload("k", META)
    server.faults.add(Fault(**{**vars(fault), "op": op}))
    if op == "PutObject":
        store.put_object("k", b"hello", META)
    else:
        part = store.upload_part("k", upload, 1, b"hello")
        store.complete_multipart_upload("k", upload, [part], META)
    assert store.get_object("k", 0, 4).body == b"hello"
    assert server.count(op) == (1 if fault.kind == "empty_200" else 2)


def test_a_complete_whose_answer_was_lost_leads_to_upload_gone(server: BosServer, store: ObjectStore) -> None:
    """The second try does not find the upload; the object tells by its token that it is ours."""
    upload = store.create_multipart_upload("k", META)
    part = store.upload_part("k", upload, 1, b"hello")
    server.faults.add(Fault("lose_answer", op="CompleteMultipartUpload"))
    error = refused(lambda: store.complete_multipart_upload("k", upload, [part], META))
    assert isinstance(error, UploadGone)
    info = store.head_object("k")
    assert info is not None
    assert info.token == META.token


def test_a_complete_answer_that_drips_is_waited_for(server: BosServer, store: ObjectStore) -> None:
    """A server may send blanks for a long time before it says how it went."""
    upload = store.create_multipart_upload("k", META)
    part = store.upload_part("k", upload, 1, b"hello")
    server.faults.add(Fault("drip", op="CompleteMultipartUpload", size=10, seconds=0.01))
    assert store.complete_multipart_upload("k", upload, [part], META).etag


def test_a_part_damaged_in_the_store_is_noticed_at_complete(server: BosServer, store: ObjectStore) -> None:
    """The CRC-32 of the whole, combined from what was sent, is not that of what was stored."""
    server.faults.add(Fault("corrupt", op="UploadPart"))
    upload = store.create_multipart_upload("k", META)
    part = store.upload_part("k", upload, 1, b"hello")
    error = refused(lambda: store.complete_multipart_upload("k", upload, [part], META))
    assert isinstance(error, PartsRefused)
    assert not error.too_small
    assert store.head_object("k") is None


# ---- with engine and state: resume -----------------------------------------------------------------------


@pytest.fixture
def rig(tmp_path: Path, store: ObjectStore) -> Iterator[Rig]:
    """A folder, a state and the BOS store, with parts of 5 MiB."""
    (tmp_path / "rig").mkdir()
    made = Rig(tmp_path / "rig", store=store, part_size=PART)
    yield made
    made.close()


def test_parts_that_are_there_are_not_sent_again(server: BosServer, rig: Rig) -> None:
    """Some parts fail for good in the first run; the next sends those that are missing, and no other."""
    content = noise(3 * PART + 1234)
    rig.write("big", content)
    server.faults.add(Fault("error", op="UploadPart", part=2, times=-1, status=503, code="SlowDown"))
    server.faults.add(Fault("error", op="UploadPart", part=4, times=-1, status=503, code="SlowDown"))
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    uploads = server.contents("photos")["uploads"].values()
    server.faults.clear()
    server.log.clear()
    rig.restart()
    rig.sync("big")
    have = {number for upload in uploads for number in upload["parts"]}
    sent = sorted(seen.part for seen in server.log if seen.op == "UploadPart")
    assert have | set(sent) == {1, 2, 3, 4}
    assert 2 in sent
    assert have.isdisjoint(sent)
    assert server.contents("photos")["objects"]["p/big"]["md5"] == hashlib.md5(content).hexdigest()
    assert server.contents("photos")["uploads"] == {}


def test_a_gap_among_the_parts_is_filled_from_its_own_offset(
    server: BosServer, rig: Rig, store: ObjectStore
) -> None:
    """Parts 1 and 3 are there, 2 is not: it alone is sent, from (2 - 1) x part size.

    The vendor's JavaScript uploader takes the sum of the sizes present for the offset, goes on with part 4,
    and completes a corrupt object. Here a process sent the parts and died before it recorded them.
    """
    content = noise(3 * PART)
    rig.write("big", content)
    server.faults.add(Fault("error", op="UploadPart", times=-1, status=503, code="SlowDown"))
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    server.faults.clear()
    (upload_id,) = server.contents("photos")["uploads"]
    for number in (1, 3):
        store.upload_part("p/big", upload_id, number, content[(number - 1) * PART : number * PART])
    server.log.clear()
    rig.restart()
    rig.sync("big")
    assert [seen.part for seen in server.log if seen.op == "UploadPart"] == [2]
    assert server.contents("photos")["objects"]["p/big"]["md5"] == hashlib.md5(content).hexdigest()


def test_a_lost_complete_is_not_uploaded_again(server: BosServer, rig: Rig) -> None:
    """Whether the answer or the whole process was lost: the object is found by its token, nothing is sent."""
    content = noise(PART + 1)
    rig.write("big", content)
    server.faults.add(Fault("lose_answer", op="CompleteMultipartUpload", times=-1))
    rig.sync("big")
    assert sorted(seen.part for seen in server.log if seen.op == "UploadPart") == [1, 2]
    assert server.contents("photos")["objects"]["p/big"]["md5"] == hashlib.md5(content).hexdigest()


def test_a_larger_minimum_of_the_server_is_learned(server: BosServer, rig: Rig) -> None:
    """EntityTooSmall at complete: a restart with larger parts, remembered for the files that follow."""
    server.change({"min_part_size": PART + MIB})
    rig.write("big", noise(2 * PART + 1))
    rig.sync("big")
    rig.write("more", noise(2 * PART + 1, 2))
    rig.sync("more")
    assert [seen.code for seen in server.log if seen.op == "CompleteMultipartUpload"] == [
        "EntityTooSmall",
        "",
        "",
    ]
    assert server.contents("photos")["uploads"] == {}

"""kill -9 in the middle of a large upload: the object is right, and what has arrived does not go again."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import xxhash

from tests.e2e import trees
from tests.e2e.process import Syncd, bos_store, s3_store, wait_until
from tests.support.bos_server import BosServer
from tests.support.fault_proxy import FaultProxy
from tests.support.http_pieces import Head
from tests.support.servers import S3Server
from tests.support.shelves import BosShelf, BucketShelf, Shelf

MIB = trees.MIB
PART = 8 * MIB
CONCURRENCY = 4
SIZE = 256 * MIB
SMALLER = 64 * MIB
OWN_FILES = 8 * MIB
"""What the state, the log and sockets may take besides."""
HEADS = 4 * MIB
"""Room for the heads of all requests, and for what a killed client had written and no server had read."""
Figure = Callable[[str, object], None]
KILLS_AFTER = (20 * MIB, 50 * MIB, 3 * MIB, 90 * MIB)
"""Bytes that each of the killed processes got out, counted from its start; in the middle of parts."""


@dataclass
class Case:
    """One store behind a proxy, and what a client that is not ours says about it."""

    syncd: Syncd
    proxy: FaultProxy
    shelf: Shelf
    answers: Answers

    def digest(self) -> str | None:
        """XXH3-128 of the object ``p/big`` as it is in the store; None when there is none."""
        content = self.shelf.fetch("p/big")
        return None if content is None else _hex(content)

    def unfinished(self) -> int:
        """How many multipart uploads are open."""
        return len(self.shelf.unfinished())


class Answers:
    """What happens to the answer of the first request that `which` names."""

    def __init__(self) -> None:
        self.which: Callable[[str], bool] = lambda request: False
        self.kind = ""
        self.kept: list[str] = []

    def __call__(self, number: int, head: Head) -> str | None:
        if self.kept or not self.which(head.request):
            return None
        self.kept.append(head.request)
        return self.kind


def _hex(content: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(content)


@pytest.fixture(params=["ceph", "bos"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """syncd, and a real gateway or the strict BOS server with an empty bucket, behind a proxy that counts."""
    server: S3Server | BosServer = request.getfixturevalue(f"{request.param}_server")
    shelf: Shelf
    bucket, answers = f"kill-{next(_numbers)}", Answers()
    with FaultProxy(("127.0.0.1", server.port), answers, stall_seconds=60) as proxy:
        if isinstance(server, BosServer):
            server.disk.create(bucket)
            store, shelf = bos_store(server, bucket, proxy.port), BosShelf(server, bucket)
        else:
            server.make_bucket(bucket)
            store, shelf = s3_store(server.settings(bucket), proxy.port), BucketShelf(server, bucket)
        syncd = _syncd(tmp_path, store)
        yield Case(syncd, proxy, shelf, answers)
        syncd.close()
    (tmp_path / "folder" / "big").unlink()


_numbers = itertools.count(1)


def _syncd(root: Path, store: dict[str, Any], **transfer: Any) -> Syncd:
    (root / "folder").mkdir()
    source = {"name": "big", "path": "./folder", "store": "there", "prefix": "p/", "settle": "100ms"}
    bounds = {"part_size": "8MiB", "concurrency": CONCURRENCY, **transfer}
    return Syncd(root, {"there": store}, [source], transfer=bounds)


def _write(syncd: Syncd, size: int) -> str:
    """Write the file; returns its digest."""
    path = syncd.root / "folder" / "big"
    trees.write_big(path, size)
    return _hex(path.read_bytes())


def _arrived(syncd: Syncd) -> None:
    wait_until("the file is recorded", lambda: syncd.status()["sources"][0]["files"]["recorded"] == 1)


@pytest.mark.slow
@pytest.mark.real_server
def test_a_killed_upload_goes_on_where_it_was(case: Case) -> None:
    """After four kills the object is right, and only what was in flight at a kill was sent twice."""
    digest = _write(case.syncd, SIZE)
    for size in KILLS_AFTER:
        case.proxy.freeze_after(size)
        case.syncd.start()
        assert case.proxy.wait_stalled(60), case.syncd.log_text()
        case.syncd.kill()
        case.proxy.thaw()
        assert case.digest() is None

    case.syncd.start()
    _arrived(case.syncd)
    assert case.syncd.stop() == 0

    assert digest == case.digest()
    assert SIZE <= case.proxy.bytes_sent <= SIZE + len(KILLS_AFTER) * CONCURRENCY * PART + HEADS
    assert len(list(filter(_is_create, case.proxy.ledger.targets))) == 1
    assert case.unfinished() == 0


def _is_create(request: str) -> bool:
    return request.startswith("POST ") and request.endswith(("?uploads", "?uploads="))


def _is_part(request: str) -> bool:
    return request.startswith("PUT ") and "partNumber=3" in request


def _is_complete(request: str) -> bool:
    return request.startswith("POST ") and "uploadId=" in request


def _is_sent_once(case: Case, size: int, twice: int, figure: Figure) -> None:
    """No content went out again that the store had acknowledged, beyond `twice` bytes.

    A part whose connection broke on the way goes out again: that is no repetition, but no fault broke one on
    purpose here, so it is bounded, and told with all that is known of it.
    """
    sent, story = case.proxy.ledger.bytes, (case.proxy.ledger.story(), case.syncd.log_text())
    assert sent.repeated + sent.refused <= twice, story
    assert size <= case.proxy.bytes_sent <= size + twice + HEADS + sent.lost_to_clients, story
    assert sent.lost_to_clients <= twice + CONCURRENCY * PART, story
    if sent.lost_to_clients > twice:
        figure("kill: connections that broke on the way", story)


MOMENTS = pytest.mark.parametrize(
    ("which", "twice"),
    [(_is_create, 0), (_is_part, CONCURRENCY * PART), (_is_complete, 0)],
    ids=["create", "part", "complete"],
)
"""A request, and how many bytes more may go out when its answer never comes."""


@pytest.mark.real_server
@MOMENTS
def test_killed_when_the_server_has_done_it_and_we_do_not_know(
    case: Case, which: Callable[[str], bool], twice: int, figure: Figure
) -> None:
    """The effect is there, the answer on its way, the process dead: the next one finds out."""
    digest = _write(case.syncd, SMALLER)
    case.answers.which, case.answers.kind = which, "stalled answer"
    case.syncd.start()
    assert case.proxy.wait_stalled(60), case.syncd.log_text()
    case.syncd.kill()
    case.proxy.thaw()

    case.syncd.start()
    _arrived(case.syncd)

    assert digest == case.digest()
    _is_sent_once(case, SMALLER, twice, figure)
    assert case.unfinished() == 0


@pytest.mark.real_server
@MOMENTS
def test_a_lost_answer_is_asked_for(
    case: Case, which: Callable[[str], bool], twice: int, figure: Figure
) -> None:
    """The first answer of its kind never comes: the process finds out what became of the request."""
    digest = _write(case.syncd, SMALLER)
    case.answers.which, case.answers.kind = which, "lost answer"

    done = case.syncd.command("sync")

    assert "1 uploaded" in done.stdout
    assert len(case.answers.kept) == 1
    assert digest == case.digest()
    _is_sent_once(case, SMALLER, twice, figure)
    assert case.unfinished() == 0


@pytest.mark.slow
def test_a_killed_upload_to_a_directory_goes_on_where_it_was(tmp_path: Path) -> None:
    """The same with a directory as the store; here the kernel's account of the process tells the bytes."""
    (tmp_path / "mirror").mkdir()
    syncd = _syncd(tmp_path, {"type": "dir", "path": "./mirror"}, bandwidth_limit="64MiB")
    digest = _write(syncd, SIZE)
    target = tmp_path / "mirror" / "p" / "big"
    written = 0
    try:
        for size in KILLS_AFTER:
            syncd.start(wait=False)
            enough = partial(_has_written, syncd, size)
            wait_until("it has written enough", enough, pause=0.002)
            assert syncd.process is not None
            syncd.process.send_signal(signal.SIGSTOP)
            written += _written(syncd)
            syncd.kill()
            assert not target.exists()
        syncd.start()
        _arrived(syncd)
        written += _written(syncd)
        assert syncd.stop() == 0
    finally:
        syncd.close()

    assert digest == _hex(target.read_bytes())
    assert os.listdir(tmp_path / "mirror" / ".syncd" / "uploads") == []
    # Twice its size: once in parts, and once more when the parts are joined into the object.
    assert 2 * SIZE <= written <= 2 * SIZE + len(KILLS_AFTER) * CONCURRENCY * PART + OWN_FILES


def _has_written(syncd: Syncd, size: int) -> bool:
    return _written(syncd) >= size


def _written(syncd: Syncd) -> int:
    """Bytes that the process has given to write(2) and its like."""
    assert syncd.process is not None
    for line in Path(f"/proc/{syncd.process.pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise AssertionError("the kernel keeps no account")

"""The stores that the deaths happen on: the fake, and one of each real kind, all of them with tiny parts.

A place is opened once and serves many lives, each under a prefix of its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from syncd.storage.base import ObjectStore
from syncd.storage.opening import open_store
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings, KeySettings
from tests.contract.subjects import context
from tests.support.bos_server import BosServer
from tests.support.bos_verbs import Rules
from tests.support.servers import CephServer, S3Server, find_program
from tests.support.store import SMALL_LIMITS, FakeStore

BUCKET = "deaths"
LEAST_PART = 5
"""What the servers take as a part in the middle, in bytes; the directory takes any."""
BELIEVED = replace(SMALL_LIMITS, min_part_size=LEAST_PART - 1)
"""What our own side is told: a little less, so that there is something to learn."""

_numbers = itertools.count(1)


class Place(NamedTuple):
    """A store, and where in it one life has room."""

    name: str
    store: ObjectStore
    prefix: str


class Places:
    """Gives each life its place. `kind` is one of `KINDS`."""

    def __init__(self, kind: str, store: ObjectStore | None = None) -> None:
        self.kind = kind
        self._store = store

    def place(self, root: Path) -> Place:
        """A new one. The fake and the directory are new as a whole."""
        if self._store is not None:
            return Place(self.kind, self._store, f"life{next(_numbers)}/")
        if self.kind == "fake":
            limits = replace(SMALL_LIMITS, min_part_size=LEAST_PART, completes_with_meta=True)
            return Place("fake", FakeStore(limits, now_ns=time.time_ns), "p/")
        (root / "objects").mkdir()
        settings = DirSettings(str(root / "objects"))
        return Place("dir", open_store(settings, context()), "p/")


class SmallPartsGateway(S3Server):
    """One more Ceph gateway on the cluster of another: this one takes parts of a few bytes."""

    name = "ceph"
    programs = CephServer.programs
    comes_from = CephServer.comes_from
    ends_by_itself = False

    def __init__(self, cluster: S3Server) -> None:
        super().__init__()
        self._cluster = cluster

    def _launch(self) -> None:
        self._spawn(
            "rgw",
            [
                find_program("radosgw") or "radosgw", "-c", str(self._cluster.directory / "ceph.conf"),
                "-n", "client.rgw.a", "-f",
                "--rgw_frontends", f"beast endpoint=127.0.0.1:{self.port}",
                "--rgw_multipart_min_part_size", str(LEAST_PART),
            ],
        )  # fmt: skip


@contextmanager
def _bos(directory: Path) -> Iterator[Places]:
    rules = Rules(page_size=2, min_part_size=LEAST_PART)
    with BosServer(directory, buckets=[BUCKET], rules=rules) as server:
        account = next(iter(server.accounts.values()))
        keys = KeySettings(access_key_id=account.access_key_id, secret_access_key=account.secret_access_key)
        settings = BosSettings(http=HttpSettings(server.url), bucket=BUCKET, path_style=True, keys=keys)
        store = open_store(settings, context())
        yield Places("bos", store)
        store.close()


@contextmanager
def _ceph(cluster: S3Server, directory: Path) -> Iterator[Places]:
    server = SmallPartsGateway(cluster)
    server.start(directory)
    try:
        server.make_bucket(BUCKET)
        store = open_store(server.settings(BUCKET), context())
        yield Places("ceph", store)
        store.close()
    finally:
        server.stop()


KINDS = ("fake", "dir", "bos", "ceph")


@contextmanager
def places(kind: str, request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[Places]:
    """The places of one kind; a server is started for all of its lives."""
    if kind == "bos":
        with _bos(factory.mktemp("bos")) as found:
            yield found
    elif kind == "ceph":
        with _ceph(request.getfixturevalue("ceph_server"), factory.mktemp("gateway")) as found:
            yield found
    else:
        yield Places(kind)

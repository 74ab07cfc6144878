"""A store over TLS is asked which digests it checks before the first large file, through any death."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.storage.base import DIGESTS, Clock, Memory
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.connect import Line
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.http.store import HttpStore
from syncd.storage.http.transport import ControlAndContent
from syncd.storage.retry import RetryingStore
from syncd.storage.settings import BosSettings, HttpSettings
from tests.support.bos_server import BosServer
from tests.support.hostile import Certificate, make_certificate
from tests.support.rig import Rig

PART = 5 << 20


class Died(BaseException):
    """The process is no more."""


class Mortal:
    """A transport of a process that dies before or after its n-th request, and then sends no more."""

    def __init__(self, http: HttpSettings, number: int, *, after: bool) -> None:
        line = Line(http, should_stop=lambda: False, on_sent=lambda size: None)
        self._inner = ControlAndContent(line)
        self._left, self._after = number, after

    def send(self, request: Request) -> Response:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._after):
            raise Died
        response = self._inner.send(request)
        if self._left == 0:
            raise Died
        return response

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server(tmp_path: Path, certificate: Certificate) -> Iterator[BosServer]:
    with BosServer(tmp_path / "bos", certificate=(certificate.cert, certificate.key)) as running:
        yield running


def _store(server: BosServer, certificate: Certificate, rig: list[Rig], number: int, *, after: bool) -> Any:
    """As `open_store` makes it, on a transport that is mortal."""
    http = HttpSettings(server.url, ca_bundle=certificate.cert)
    dialect = BosDialect(BosSettings(http, "photos", path_style=True))
    memory = Memory(
        lambda store_id: rig[0].state.learned(store_id, DIGESTS) or "",
        lambda store_id, text: rig[0].state.learn(store_id, DIGESTS, text),
    )
    transport, keys = Mortal(http, number, after=after), Credentials("ak", "sk")
    inner = HttpStore(dialect, transport, lambda: keys, time.time, digests=memory)
    return RetryingStore(inner, Clock(time.time, lambda seconds: None, lambda: 0.5))


@pytest.mark.parametrize(
    ("number", "after"), [(1, True), (2, True), (3, True), (4, True), (5, False), (5, True)]
)
def test_a_death_during_the_question_leaves_no_upload(
    tmp_path: Path, server: BosServer, certificate: Certificate, number: int, after: bool
) -> None:
    """The next start asks again where the answer is not known, and the file arrives whole, by CRC-32."""
    content, rigs = os.urandom(PART + 1), list[Rig]()
    store = _store(server, certificate, rigs, number, after=after)
    rigs.append(rig := Rig(tmp_path, store=store, part_size=PART))
    rig.write("big", content)
    with pytest.raises(Died):
        rig.sync("big")
    store.close()
    rig.store = store = _store(server, certificate, rigs, 1000, after=False)
    rig.restart()
    rig.sync("big")
    assert list(store.list_multipart_uploads("")) == []
    assert store.get_object("p/big", 0, len(content) - 1).body == content
    assert (rig.state.learned(store.store_id, DIGESTS) or "").startswith("checked crc32 1")
    parts = [seen.headers for seen in server.log if seen.part][-2:]
    assert all("x-bce-content-crc32" in headers and "content-md5" not in headers for headers in parts)
    rig.close()
    store.close()

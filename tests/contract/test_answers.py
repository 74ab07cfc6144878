"""The table of answers, cell by cell, on the stores behind HTTP: a server gives each answer to each verb.

What is expected is read from docs/answers.md, which is made of the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import AccessRefused, StoreError, StoreRefused
from syncd.core.model import Fingerprint, ObjectMeta, Part
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.errors import CODES, VERBS
from syncd.storage.http.messages import Credentials
from syncd.storage.http.store import HttpStore
from syncd.storage.http.transport import Transport
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import BosSettings, HttpSettings, KeySettings, S3Settings
from tests.contract import stores_page
from tests.contract.subjects import QUIRKS
from tests.support.answers_page import NETWORK, STATUS_ROWS, cell, page, word
from tests.support.hostile import HostileServer, Peer
from tests.support.servers import SERVERS
from tests.unit.storage.http.transports import open_transport, socket_transport

PAGE = Path(__file__).resolve().parents[2] / "docs" / "answers.md"
META = ObjectMeta(Fingerprint(bytes(16), 5), 0, token="t")
CALLS: dict[str, Callable[[HttpStore], object]] = {
    "put": lambda store: store.put_object("k", b"hello", META),
    "part": lambda store: store.upload_part("k", "u", 1, b"hello"),
    "copy": lambda store: store.copy_object("s", "k", META, "e"),
    "part copy": lambda store: store.upload_part_copy("k", "u", 1, "s", 0, 4, "e"),
    "create": lambda store: store.create_multipart_upload("k", META),
    "complete": lambda store: store.complete_multipart_upload("k", "u", [Part(1, 5, "e")], META),
    "parts": lambda store: store.list_parts("k", "u"),
    "abort": lambda store: store.abort_multipart_upload("k", "u"),
    "uploads": lambda store: list(store.list_multipart_uploads("")),
    "head": lambda store: store.head_object("k"),
    "get": lambda store: store.get_object("k", 0, 0),
    "list": lambda store: list(store.list_objects("")),
    "delete": lambda store: store.delete_object("k"),
}


class Stores:
    """Both dialects before one server, which gives `answer` to every request."""

    def __init__(self, server: HostileServer, kind: Callable[[HttpSettings], Transport]) -> None:
        http = HttpSettings(server.endpoint)
        keys = KeySettings("AKID", "secret")
        self.answer = b""
        self.dialects: dict[str, Any] = {
            "s3": S3Dialect(S3Settings(http, "photos", keys=keys)),
            "bos": BosDialect(BosSettings(http, "photos", keys=keys)),
        }
        self.stores = {
            name: HttpStore(
                dialect,
                kind(http),
                lambda: Credentials("AKID", "secret"),
                lambda: 1_800_000_000.0,
            )
            for name, dialect in self.dialects.items()
        }

    def meant(self, dialect: str, verb: str) -> str:
        """The word for what the verb makes of the answer."""
        try:
            CALLS[verb](self.stores[dialect])
        except StoreError as error:
            return word(error)
        return "done"


def _sockets(http: HttpSettings) -> Transport:
    return socket_transport(http, should_stop=lambda: False, on_sent=lambda size: None)


@pytest.fixture
def stores() -> Iterator[Stores]:
    made: list[Stores] = []

    def script(peer: Peer) -> None:
        while True:
            method = peer.read_request().method
            head, _, body = made[0].answer.partition(b"\r\n\r\n")
            length = b"" if method == "HEAD" and not body else b"\r\nContent-Length: %d" % len(body)
            peer.send(head + length + b"\r\n\r\n" + (b"" if method == "HEAD" else body))

    with HostileServer([script]) as server:
        made.append(Stores(server, _sockets))
        yield made[0]
        for store in made[0].stores.values():
            store.close()


def answer(status: int, dialect: str, code: str = "") -> bytes:
    body = b""
    if code:
        body = f"<Error><Code>{code}</Code></Error>".encode()
        if dialect == "bos":
            body = json.dumps({"code": code, "message": "no"}).encode()
    return f"HTTP/1.1 {status} Answer\r\nX-Any: 1".encode() + b"\r\n\r\n" + body


def cells() -> dict[str, dict[str, str]]:
    """The rows of the page, by answer and verb."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head = next(row for row in rows if row[1:] == list(VERBS))
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows if row[0].isdigit()}


def test_the_page_is_that_of_the_table() -> None:
    """After a change: python -m tests.support.answers_page > docs/answers.md."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_page_of_stores_has_the_differences_of_the_suite() -> None:
    """After a change: python -m tests.contract.stores_page."""
    text = stores_page.PAGE.read_text(encoding="utf-8")
    assert stores_page.page(text) == text
    assert set(stores_page.SERVERS) == set(SERVERS)
    known = (
        *stores_page.HARMLESS,
        *(name for row in stores_page.LESSEN.values() for names in row for name in names),
    )
    declared = {quirk for name in stores_page.SERVERS for quirk in QUIRKS[name]}
    assert {quirk for quirk in declared if not quirk.startswith(known)} == set()


every_dialect = pytest.mark.parametrize("dialect", ["s3", "bos"])


@every_dialect
def test_every_status_means_to_every_verb_what_the_page_says(stores: Stores, dialect: str) -> None:
    """Answers without a body, as a gateway gives them."""
    rows = cells()
    for status in STATUS_ROWS:
        stores.answer = answer(status, dialect)
        assert (status, {verb: stores.meant(dialect, verb) for verb in VERBS}) == (status, rows[str(status)])


@every_dialect
def test_every_code_means_to_every_verb_what_the_table_says(stores: Stores, dialect: str) -> None:
    """Whatever the status; an answer to HEAD has no code, and a second question tells what concerns all."""
    for code in [*CODES, "SomethingNew", "AnyQuotaOfOurs", "SomeDigestOfOurs"]:
        stores.answer = answer(404 if code.startswith("NoSuch") else 400, dialect, code)
        for verb in VERBS:
            meant = cell(verb, code)
            if verb == "head":
                found = cell("get", code)
                meant = found if found in ("keys", "place") else "file"
                meant = "done" if code.startswith("NoSuch") else meant
            assert (code, verb, stores.meant(dialect, verb)) == (code, verb, meant)


@every_dialect
def test_a_conflict_with_a_word_of_its_own_is_no_request_under_way(stores: Stores, dialect: str) -> None:
    """It will not end by itself: the file is refused."""
    for code in ("InvalidPartState", "ObjectUnderRetention"):
        stores.answer = answer(409, dialect, code)
        for verb in ("put", "part", "complete", "delete"):
            assert (verb, stores.meant(dialect, verb)) == (verb, "file")


ODD = {
    "a redirect (3xx)": b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\n\r\n",
    "200 without the expected answer": b"HTTP/1.1 200 OK\r\nX-Any: 1\r\n\r\n",
    "a page of a gateway or proxy": b"HTTP/1.1 403 No\r\nContent-Type: text/html\r\n\r\n<html>No</html>",
}


@every_dialect
def test_what_no_store_answers_means_what_the_page_says(stores: Stores, dialect: str) -> None:
    """Of HEAD a page has no body; what it is then, its status tells."""
    for name, stores.answer in ODD.items():
        for verb in VERBS:
            if verb != "head" and (verb, name) != ("get", "200 without the expected answer"):
                assert (name, verb, stores.meant(dialect, verb)) == (name, verb, NETWORK[name])


STATUSES = (200, 204, 206, 304, 400, 404, 500, 999)
BODIES = {
    "nothing": b"",
    "a page": b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "half a document": b"<Error><Code>NoSuch",
    "another document": b'<?xml version="1.0"?><Welcome><Code/><ETag>"e"</ETag></Welcome>',
    "an empty error": b"<Error><Code></Code><Message/></Error>",
    "a document of wrong values": b"<ListPartsResult><Part><Size>-1</Size></Part></ListPartsResult>",
    "null": b"null",
    "a list": b"[[[]]]",
    "another object": b'{"code": 7, "message": [], "eTag": {}, "parts": "x", "contents": null}',
    "no text": bytes(range(128, 256)),
}
LENGTHS: dict[str, Callable[[int], bytes]] = {
    "right": lambda size: b"Content-Length: %d" % size,
    "none": lambda size: b"X-None: 1",
    "too small": lambda size: b"Content-Length: %d" % (size // 2),
    "too large": lambda size: b"Content-Length: %d" % (size + 9),
    "no number": lambda size: b"Content-Length: -1x",
    "two": lambda size: b"Content-Length: 1\r\nContent-Length: %d" % size,
    "chunks that are none": lambda size: b"Transfer-Encoding: chunked",
}
OF_LENGTHS = {"right": VERBS, "two": ("put", "part"), "chunks that are none": ("put", "part")}
"""Others go to urllib3, which leaves the socket of such an answer to the collector, with a warning."""
WRITES = frozenset({"put", "part", "copy", "part copy", "create", "complete"})


@pytest.mark.parametrize("length", LENGTHS)
def test_nonsense_does_nothing_and_ends_in_an_error_of_ours(length: str) -> None:
    """To every verb, in both dialects: each status with each body. Nothing was written; what was to be
    removed is gone only where the store says so; no other exception comes out.
    """
    given: list[bytes] = [b""]

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(given[0])
        peer.linger()

    with HostileServer([script]) as server:
        stores = Stores(server, open_transport)
        for status in STATUSES:
            for name, body in BODIES.items():
                head = b"HTTP/1.1 %d Odd\r\nETag: x\r\n%s\r\n" % (status, LENGTHS[length](len(body)))
                given[0] = head + b"Connection: close\r\n\r\n" + body
                for dialect in stores.dialects:
                    for verb in OF_LENGTHS.get(length, ("put", "complete", "list", "delete")):
                        meant = stores.meant(dialect, verb)
                        said = (dialect, verb, status, name, meant)
                        assert meant != "done" or verb not in WRITES, said
                        assert meant != "done" or verb not in ("delete", "abort") or status == 404, said
        for store in stores.stores.values():
            store.close()


@every_dialect
def test_an_error_inside_a_success_means_what_its_code_does(stores: Stores, dialect: str) -> None:
    """Of the verbs whose success has a document, as both vendors say that it happens."""
    for code in ("InternalError", "SlowDown", "NoSuchBucket"):
        stores.answer = answer(200, dialect, code)
        for verb in ("copy", "part copy", "complete", "create"):
            assert (verb, stores.meant(dialect, verb)) == (verb, cell(verb, code))


def test_keys_are_told_from_the_place() -> None:
    """The exit code of a pass tells the two apart."""
    assert word(AccessRefused("x", credentials=True)) == "keys"
    assert word(AccessRefused("x", credentials=False)) == "place"
    assert word(StoreRefused("x")) == "file"

"""Requests without an answer, cell by cell: a proxy before a server of each dialect loses what it is told to.

What is expected is what docs/answers.md shows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from syncd.core.backoff import Schedule
from syncd.core.errors import StoreUnavailable, UploadGone
from syncd.core.model import ObjectMeta, Part
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import Clock, ObjectStore
from syncd.storage.http import deadlines
from syncd.storage.http.errors import VERBS
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.retry import UNANSWERED, Retries
from tests.contract.subjects import BUCKET, BosSubject, HttpSubject, S3Subject
from tests.support.answers_page import NO_ANSWER, unanswered
from tests.support.bos_server import BosServer
from tests.support.fault_proxy import FaultProxy
from tests.support.http_pieces import Head
from tests.support.servers import S3Server

BODY = b"0123456789"
META = ObjectMeta(of_bytes(BODY), 0, token="t")
TRIES = 4
KINDS = {"lost before": "reset before", "lost after": "lost answer", "slow": "drip"}
"""What the proxy does to a request. Bytes that drip are as slow as silence, and harder to tell."""
_numbers = itertools.count(1)


@dataclass
class Case:
    """What the verbs are about: a key of its own, what is there before, and the store without the proxy."""

    direct: ObjectStore
    key: str
    upload: str = ""
    part: Part | None = None

    def call(self, store: ObjectStore, verb: str) -> object:
        calls: dict[str, Callable[[], object]] = {
            "put": lambda: store.put_object(self.key, BODY, META),
            "part": lambda: store.upload_part(self.key, self.upload, 1, BODY),
            "copy": lambda: store.copy_object(f"{self.key}-source", self.key, META, ""),
            "part copy": lambda: store.upload_part_copy(
                self.key, self.upload, 1, f"{self.key}-source", 0, len(BODY) - 1, ""
            ),
            "create": lambda: store.create_multipart_upload(self.key, META),
            "complete": lambda: store.complete_multipart_upload(
                self.key, self.upload, [p for p in (self.part,) if p], META
            ),
            "parts": lambda: len(store.list_parts(self.key, self.upload)) == 1,
            "abort": lambda: store.abort_multipart_upload(self.key, self.upload),
            "uploads": lambda: len(list(store.list_multipart_uploads(self.key))) == 1,
            "head": lambda: store.head_object(self.key) is not None,
            "get": lambda: store.get_object(self.key, 0, len(BODY) - 1).body == BODY,
            "list": lambda: len(list(store.list_objects(self.key))) == 1,
            "delete": lambda: store.delete_object(self.key),
        }
        return calls[verb]()

    def prepare(self, verb: str) -> None:
        if "copy" in verb:
            self.direct.put_object(f"{self.key}-source", BODY, META)
        if verb in ("head", "get", "list", "delete"):
            self.direct.put_object(self.key, BODY, META)
        if verb in ("part", "part copy", "complete", "parts", "abort", "uploads"):
            self.upload = self.direct.create_multipart_upload(self.key, META)
        if verb in ("complete", "parts"):
            self.part = self.direct.upload_part(self.key, self.upload, 1, BODY)

    def is_done(self, verb: str) -> bool:
        """Whether the store did it, once."""
        if verb in ("put", "copy", "complete", "delete"):
            info = self.direct.head_object(self.key)
            return info is None if verb == "delete" else info is not None and info.size == len(BODY)
        if verb in ("part", "part copy"):
            return [part.number for part in self.direct.list_parts(self.key, self.upload)] == [1]
        uploads = len(list(self.direct.list_multipart_uploads(self.key)))
        return {"create": uploads == 1, "abort": uploads == 0}.get(verb, True)


def verb_of(head: Head) -> str:
    """The verb of a request, read off its head."""
    query, copies = head.query, any("copy-source" in name for name in head.headers)
    if "uploads" in query:
        return "uploads" if head.method == "GET" else "create"
    if "uploadId" in query:
        return {"PUT": "part copy" if copies else "part", "POST": "complete", "GET": "parts"}.get(
            head.method, "abort"
        )
    if head.method == "PUT":
        return "copy" if copies else "put"
    return {"HEAD": "head", "DELETE": "delete"}.get(head.method, "get" if head.key else "list")


@dataclass
class Plan:
    """What the proxy does to the first `times` requests of one verb about one key, and how many came."""

    verb: str
    kind: str
    times: int
    count: int = 0


@dataclass(frozen=True)
class Ending:
    """What came of a call."""

    verb: str
    requests: int
    outcome: object
    """What the verb returned, or its error."""
    is_done: bool
    is_unsettled: bool


class Line:
    """A store behind the proxy."""

    def __init__(self, subject: HttpSubject) -> None:
        self.subject = subject
        self.direct = subject.open()
        self._plans: dict[str, Plan] = {}
        host, port = subject.settings().http.endpoint.removeprefix("http://").split(":")
        self.proxy = FaultProxy((host, int(port)), self._choose, drip_seconds=0.3, down_seconds=0.05)

    def _choose(self, number: int, head: Head) -> str | None:
        plan = self._plans.get(head.key or head.query.get("prefix", ""))
        if plan is None or verb_of(head) != plan.verb:
            return None
        plan.count += 1
        return plan.kind if plan.count <= plan.times else None

    def open(self, unsettled: Callable[[str, bool], object]) -> ObjectStore:
        http = replace(
            self.subject.settings().http, endpoint=f"http://127.0.0.1:{self.proxy.port}", read_seconds=2.0
        )
        context = StoreContext(
            Clock(time.time, time.sleep, lambda: 0.5),
            retries=Retries(Schedule(base_seconds=0.2, cap_seconds=1.0), max_tries=TRIES),
            unsettled=unsettled,
        )
        return open_store(replace(self.subject.settings(), http=http), context)

    def run_all(self, what: str, times: int) -> list[Ending]:
        """Call each verb while its first requests are lost."""
        cases = [Case(self.direct, f"{verb.replace(' ', '-')}-{next(_numbers)}") for verb in VERBS]
        for case, verb in zip(cases, VERBS, strict=True):
            case.prepare(verb)
        if what == "no connection":
            self.proxy.go_down()
            times = 0
        with ThreadPoolExecutor(len(VERBS)) as pool:
            return list(pool.map(lambda each: self._run(*each, what, times), zip(cases, VERBS, strict=True)))

    def _run(self, case: Case, verb: str, what: str, times: int) -> Ending:
        plan = self._plans[case.key] = Plan(verb, KINDS.get(what, ""), times)
        unsettled: list[str] = []
        store = self.open(lambda key, creates: unsettled.append(key))
        try:
            outcome = case.call(store, verb)
        except (StoreUnavailable, UploadGone) as error:
            outcome = error
        finally:
            store.close()
        return Ending(verb, plan.count, outcome, case.is_done(verb), bool(unsettled))


@pytest.fixture(params=["moto", "bos"])
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(deadlines, "SLOW_ANSWER_SECONDS", 2.0)
    server: S3Server | BosServer = request.getfixturevalue(f"{request.param}_server")
    if isinstance(server, BosServer):
        with suppress(ValueError):
            server.disk.create(BUCKET)
        subject: HttpSubject = BosSubject(server)
    else:
        server.make_bucket(BUCKET)
        subject = S3Subject(server)
    made = Line(subject)
    with made.proxy:
        yield made
    subject.close()


@pytest.mark.parametrize("what", NO_ANSWER)
def test_what_is_lost_once_is_done_once(line: Line, what: str) -> None:
    """Repeated in place; only of an upload that may have begun, the caller has to ask first."""
    is_lost = what in KINDS
    for end in line.run_all(what, 1):
        gives_up = unanswered(end.verb, what) == "look first"
        assert (end.verb, end.requests) == (end.verb, 2 if is_lost and not gives_up else 1)
        assert (end.verb, isinstance(end.outcome, StoreUnavailable)) == (end.verb, gives_up)
        assert (end.verb, end.is_done) == (end.verb, not gives_up or what != "lost before")
        assert (end.verb, end.is_unsettled) == (end.verb, UNANSWERED[end.verb].unsettled and is_lost)
        assert (end.verb, end.outcome) != (end.verb, False)
        assert end.verb == "complete" or not isinstance(end.outcome, UploadGone)


def test_what_is_lost_each_time_is_looked_for_or_given_up(line: Line) -> None:
    """Content goes twice at most where the store has it."""
    requests = {"again": TRIES, "again, then look": 2, "look first": 1}
    for end in line.run_all("lost after", TRIES):
        cell = unanswered(end.verb, "lost after")
        assert (end.verb, end.requests) == (end.verb, requests[cell])
        assert (end.verb, isinstance(end.outcome, StoreUnavailable)) == (end.verb, cell != "again, then look")
        assert (end.verb, end.is_done) == (end.verb, True)

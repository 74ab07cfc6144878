"""Which digest a body carries: what the server was found to verify, and no weaker one.

The server is one of rules: which digests it verifies, refuses or ignores, and what its ETags are.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Set
from dataclasses import dataclass, field

import pytest

from syncd.core.errors import AccessRefused, StoreRefused, StoreUnavailable
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.storage.base import Digests, Finding, Memory
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.http.store import HttpStore
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import BosSettings, HttpSettings, S3Settings

META = ObjectMeta(Fingerprint(bytes(16), 5), 0, token="t")
NOW = 1_800_000_000
DAY = 86400

Trouble = Callable[[Request], Response]
_NUMBERS = {"x-amz-request-id": "r", "x-bce-request-id": "r"}


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def carried(request: Request) -> dict[str, bool]:
    """The digests that a request has, and whether they are those of its body."""
    body, headers = bytes(request.body), {name.lower(): text for name, text in request.headers.items()}
    meant = {
        "sha256": ("x-amz-content-sha256", hashlib.sha256(body).hexdigest()),
        "md5": ("content-md5", base64.b64encode(hashlib.md5(body).digest()).decode()),
        "crc32": ("x-amz-checksum-crc32", base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()),
        "bce": ("x-bce-content-crc32", str(zlib.crc32(body))),
    }
    found = {name: headers[key] == right for name, (key, right) in meant.items() if key in headers}
    if headers.get("x-amz-content-sha256") == "UNSIGNED-PAYLOAD":
        found.pop("sha256")
    return {"crc32" if name == "bce" else name: right for name, right in found.items()}


@dataclass
class Server:
    """A transport to a server of rules; `trouble` may answer, or raise, in its place."""

    verifies: Set[str]
    refuses: Set[str] = frozenset()
    etag: Callable[[bytes], str] = md5
    trouble: Callable[[str, int], Trouble | None] = lambda verb, count: None
    verbs: list[str] = field(default_factory=list)
    sent: list[dict[str, bool]] = field(default_factory=list)
    open: int = 0
    """Uploads that are neither aborted nor completed."""

    def send(self, request: Request) -> Response:
        query = dict(request.query)
        verb = {"POST": "begin", "DELETE": "abort", "PUT": "part" if "uploadId" in query else "put"}
        self.verbs.append(verb[request.method])
        troubled = self.trouble(self.verbs[-1], self.verbs.count(self.verbs[-1]))
        if troubled is not None:
            return troubled(request)
        if self.verbs[-1] == "begin":
            self.open += 1
            xml = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            return Response(200, _NUMBERS, b'{"uploadId": "u"}' if "x-bce-date" in request.headers else xml)
        if self.verbs[-1] == "abort":
            self.open -= 1
            return Response(204, _NUMBERS)
        digests = carried(request)
        self.sent.append(digests)
        if digests.keys() & self.refuses:
            return refusal(400, "InvalidRequest")(request)
        if any(not right for check, right in digests.items() if check in self.verifies):
            return refusal(400, "BadDigest")(request)
        return Response(200, {**_NUMBERS, "etag": f'"{self.etag(bytes(request.body))}"'})

    def close(self) -> None: ...


def refusal(status: int, code: str) -> Trouble:
    """In the words of the protocol that was spoken."""

    def answer(request: Request) -> Response:
        if "x-bce-date" in request.headers:
            return Response(status, _NUMBERS, f'{{"code": "{code}", "message": "no"}}'.encode())
        return Response(status, _NUMBERS, f"<Error><Code>{code}</Code></Error>".encode())

    return answer


class Notes(dict[str, str]):
    """What is remembered."""

    def memory(self) -> Memory:
        return Memory(lambda store_id: self.get(store_id, ""), self.__setitem__)


def dialect(
    kind: str, scheme: str, integrity: str = "auto", host: str = "127.0.0.1:1"
) -> S3Dialect | BosDialect:
    http = HttpSettings(f"{scheme}://{host}")
    if kind == "bos":
        return BosDialect(BosSettings(http, "photos"))
    return S3Dialect(S3Settings(http, "photos", integrity=integrity))


def store(
    server: Server, made: S3Dialect | BosDialect, notes: Notes | None, now: Callable[[], float] = lambda: NOW
) -> HttpStore:
    memory = notes.memory() if notes is not None else None
    return HttpStore(made, server, lambda: Credentials("AKID", "secret"), now, digests=memory)


def used(client: HttpStore, server: Server) -> dict[str, bool]:
    """The digests that the next part and the next put carry."""
    server.sent.clear()
    client.upload_part("k", "u", 1, b"hello")
    client.put_object("k", b"hello", META)
    one, other = server.sent
    assert one == other
    return one


ALL = frozenset({"crc32", "sha256", "md5"})
FOUND = [
    # kind, scheme, verified, refused: by what; and what is done about it
    ("s3", "https", ALL, set(), "crc32", Digests.CHECKED),
    ("s3", "https", {"sha256", "md5"}, set(), "sha256", Digests.CHECKED),
    ("s3", "https", {"sha256", "md5"}, {"crc32"}, "sha256", Digests.CHECKED),
    ("s3", "https", {"md5"}, set(), "md5", Digests.CHECKED),
    ("s3", "https", {"md5"}, {"crc32", "sha256"}, "md5", Digests.CHECKED),
    ("s3", "https", set(), set(), "sha256", Digests.ETAG),
    ("s3", "https", set(), {"sha256"}, "md5", Digests.ETAG),
    ("s3", "http", ALL, set(), "sha256", Digests.CHECKED),
    ("s3", "http", {"md5"}, set(), "md5", Digests.CHECKED),
    ("bos", "https", ALL, set(), "crc32", Digests.CHECKED),
    ("bos", "https", {"md5"}, set(), "md5", Digests.CHECKED),
    ("bos", "https", {"md5"}, {"crc32"}, "md5", Digests.CHECKED),
    ("bos", "http", ALL, set(), "md5", Digests.CHECKED),
]


@pytest.mark.parametrize(("kind", "scheme", "verifies", "refuses", "check", "digests"), FOUND)
def test_the_cheapest_check_that_the_server_makes_is_found_and_used(
    kind: str, scheme: str, verifies: Set[str], refuses: Set[str], check: str, digests: Digests
) -> None:
    """Without an object and without an upload that is left. What can be forged needs TLS."""
    server, notes, made = Server(verifies, refuses), Notes(), dialect(kind, scheme)
    client = store(server, made, notes)
    found = client.probe_digests("place/digests")
    assert found == Finding(digests, check, NOW, check == made.usual_check)
    assert server.open == 0
    assert "put" not in server.verbs
    if made.usual_check not in refuses:
        assert used(client, server) == {made.usual_check: True}, "nothing is remembered yet"
    notes[client.store_id] = str(found)
    assert used(client, server) == {check: True}


@pytest.mark.parametrize(("etag", "digests"), [(md5, Digests.ETAG), (lambda body: "e" * 32, Digests.SIZE)])
@pytest.mark.parametrize("kind", ["s3", "bos"])
def test_of_a_server_that_verifies_nothing_the_etag_is_looked_at(
    kind: str, etag: Callable[[bytes], str], digests: Digests
) -> None:
    """Where that is the MD5 of what the server took, it tells as much."""
    server = Server(set(), etag=etag)
    found = store(server, dialect(kind, "https"), None).probe_digests("k")
    assert found is not None
    assert (found.digests, found.is_usual, server.open) == (digests, True, 0)


def test_a_server_that_refuses_a_part_that_it_has_is_not_taken_for_one_that_checks() -> None:
    """rclone answers 501 to a part that is sent again."""
    seen: set[tuple[tuple[str, str], ...]] = set()

    class Once(Server):
        def send(self, request: Request) -> Response:
            again = request.query in seen and request.method == "PUT"
            seen.add(request.query)
            return refusal(501, "NotImplemented")(request) if again else super().send(request)

    found = store(Once({"md5"}), dialect("s3", "http"), None).probe_digests("k")
    assert found is not None
    assert (found.digests, found.check) == (Digests.CHECKED, "md5")


@pytest.mark.parametrize("wrong", [refusal(400, "InvalidRequest"), refusal(403, "AccessDenied")])
def test_a_store_that_refuses_every_right_part_tells_nothing(wrong: Trouble) -> None:
    """The refusal is about something else. The upload is aborted nevertheless."""
    server = Server(ALL, trouble=lambda verb, count: wrong if verb == "part" else None)
    with pytest.raises(StoreRefused):
        store(server, dialect("s3", "https"), None).probe_digests("k")
    assert server.open == 0


@pytest.mark.parametrize("integrity", ["none", "sha256", "md5", "crc32"])
def test_the_word_of_the_operator_stands(integrity: str) -> None:
    """Whatever is remembered of another digest; none asks nothing."""
    server, notes = Server(ALL), Notes()
    client = store(server, dialect("s3", "https", integrity), notes)
    wanted = {} if integrity == "none" else {integrity: True}
    for remembered in ("", "checked crc32 1800000000", "checked md5 1800000000", "of a newer version"):
        notes[client.store_id] = remembered
        client.create_multipart_upload("k", META)
        assert used(client, server) == wanted
        assert server.verbs.count("begin") == server.open
    found = client.probe_digests("k")
    assert found == (None if integrity == "none" else Finding(Digests.CHECKED, integrity, NOW))


# ---- asked by itself -------------------------------------------------------------------------------------


def asked(client: HttpStore, server: Server) -> bool:
    """Whether the next upload asks first; what it asks with is gone afterwards."""
    before, left = len(server.verbs), server.open
    client.create_multipart_upload("k", META)
    assert server.open == left + 1
    return len(server.verbs) - before > 1


@pytest.mark.parametrize("kind", ["s3", "bos"])
def test_the_first_large_upload_asks_once(kind: str) -> None:
    """What was found is remembered, with its age, by the store's id: asked again in a month, or elsewhere."""
    server, notes, time = Server(ALL), Notes(), [float(NOW)]
    client = store(server, dialect(kind, "https"), notes, lambda: time[0])
    assert asked(client, server)
    assert used(client, server) == {"crc32": True}
    again = store(server, dialect(kind, "https"), notes, lambda: time[0])
    for each in (client, again):
        assert not asked(each, server)
        assert used(each, server) == {"crc32": True}
    server.verifies = ALL - {"crc32"}
    time[0] += 31 * DAY
    assert asked(again, server)
    assert "crc32" not in used(again, server)
    elsewhere = store(server, dialect(kind, "https", host="127.0.0.2:1"), notes, lambda: time[0])
    assert asked(elsewhere, server)


@pytest.mark.parametrize(
    ("kind", "scheme", "host"),
    [
        ("s3", "http", "127.0.0.1:1"),
        ("bos", "http", "127.0.0.1:1"),
        ("s3", "https", "s3.us-east-1.amazonaws.com"),
    ],
)
def test_where_nothing_cheaper_may_be_found_nothing_is_asked(kind: str, scheme: str, host: str) -> None:
    """Without TLS CRC-32 would not do, and what AWS verifies is documented."""
    server, notes = Server(ALL), Notes()
    assert not asked(store(server, dialect(kind, scheme, host=host), notes), server)
    assert not notes
    assert not asked(store(server, dialect("s3", "https"), None), server), "the answer would not be kept"


TROUBLE = [
    ("begin", refusal(503, "SlowDown")),
    ("begin", refusal(403, "AccessDenied")),
    ("part", refusal(503, "SlowDown")),
    ("part", refusal(403, "AccessDenied")),
    ("abort", refusal(403, "AccessDenied")),
]


@pytest.mark.parametrize("kind", ["s3", "bos"])
@pytest.mark.parametrize(("verb", "answer"), TROUBLE)
@pytest.mark.parametrize("known", ["", f"etag - {NOW - 40 * DAY}", f"checked crc32 {NOW - 40 * DAY}"])
def test_a_question_that_fails_changes_nothing(kind: str, verb: str, answer: Trouble, known: str) -> None:
    """The upload goes on with what was known; the store is not asked again within the hour."""

    def fails(told: str, count: int) -> Trouble | None:
        return answer if told == verb and (count == 1 or verb == "part") else None

    server, notes, made, time = Server({"md5", "sha256"}), Notes(), dialect(kind, "https"), [float(NOW)]
    notes[made.store_id] = known.replace("-", "md5" if kind == "bos" else "sha256", 1)
    before = dict(notes)
    server.trouble = fails
    client = store(server, made, notes, lambda: time[0])
    client.create_multipart_upload("k", META)
    server.trouble = lambda verb, count: None
    assert notes == before
    expected = "crc32" if "crc32" in known else made.usual_check
    assert used(client, server) == {expected: True}
    assert not asked(client, server)
    time[0] += 3601
    assert asked(client, server)


@pytest.mark.parametrize("verb", ["begin", "abort"])
def test_where_the_upload_of_the_question_may_be_left_the_caller_sweeps(verb: str) -> None:
    """It was begun under the key of the file: what clears up after a lost answer finds it."""

    def lost(told: str, count: int) -> Trouble | None:
        if (told, count) == (verb, 1):
            raise StoreUnavailable("lost", outcome_unknown=True)
        return None

    server = Server(ALL, trouble=lost)
    client = store(server, dialect("s3", "https"), Notes())
    with pytest.raises(StoreUnavailable) as caught:
        client.create_multipart_upload("k", META)
    assert caught.value.outcome_unknown
    assert not asked(client, server)


def test_keys_that_are_refused_are_told_by_the_upload() -> None:
    server = Server(ALL, trouble=lambda verb, count: refusal(403, "InvalidAccessKeyId"))
    with pytest.raises(AccessRefused):
        store(server, dialect("s3", "https"), Notes()).create_multipart_upload("k", META)


def test_a_bucket_that_wants_an_md5_gets_one_whatever_was_found() -> None:
    """One with object locks says so; then it is asked for no other."""
    server, notes = Server(ALL), Notes()
    client = store(server, dialect("s3", "https"), notes)
    notes[client.store_id] = f"checked sha256 {NOW}"
    said = b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 is required</Message></Error>"
    server.trouble = lambda verb, count: (
        (lambda request: Response(400, _NUMBERS, said)) if count == 1 else None
    )
    with pytest.raises(StoreUnavailable, match="MD5"):
        client.put_object("k", b"hello", META)
    server.trouble = lambda verb, count: None
    assert used(client, server) == {"md5": True}


@pytest.mark.parametrize(
    "finding",
    [
        Finding(digests, check, asked)
        for digests in Digests
        for check in ("", "md5")
        for asked in (0, NOW)
        if check
    ],
)
def test_what_is_remembered_is_read_again(finding: Finding) -> None:
    assert Finding.of(str(finding)) == finding


@pytest.mark.parametrize("text", ["", "checked", "etag", "size"])
def test_what_older_versions_remembered_is_read(text: str) -> None:
    """It had neither a digest nor an age, so it is asked again."""
    assert Finding.of(text) == Finding(Digests(text or "checked"))
    for nonsense in ("nonsense", "checked md5 soon"):
        with pytest.raises(ValueError, match=re.compile("nonsense|soon")):
            Finding.of(nonsense)

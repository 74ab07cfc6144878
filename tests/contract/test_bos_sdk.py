"""The vendor's own SDK judges: it drives the test server, and reads what our dialect wrote and the reverse.

The SDK leaves its sockets to the garbage collector, so their warnings are ignored here, and collected here.
"""

from __future__ import annotations

import gc
import hashlib
import http.client
import io
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from baidubce.auth.bce_credentials import BceCredentials
from baidubce.bce_client_configuration import BceClientConfiguration
from baidubce.exception import BceHttpClientError
from baidubce.services.bos.bos_client import BosClient
from msgspec.structs import replace

from syncd.cli.check import probes as check
from syncd.core.errors import PreconditionFailed
from syncd.core.model import Content, Fingerprint, ObjectInfo, ObjectMeta, Part
from syncd.storage.base import DOUBLED, Clock, Memory
from syncd.storage.bos import errors as bos_errors
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http import errors as http_errors
from syncd.storage.http.messages import Request, Response
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.settings import BosSettings, HttpSettings, KeySettings
from tests.support.bos_auth import Account
from tests.support.bos_server import BosServer
from tests.unit.storage.bos.bos_wire import ask, dialect_for

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

BUCKET = "photos"
MIB = 1 << 20
DIGEST = bytes(range(16))
META = ObjectMeta(Fingerprint(DIGEST, 5), 1_600_000_000_123_456_789, "tøken", content_type="text/plain")
ODD_KEY = "a b/中文 +%?&=#'\"x~y.bin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    """A strict server: parts of 5 MiB at least, as the older documents say."""
    with BosServer(tmp_path / "bos") as running:
        running.change({"min_part_size": 5 * MIB})
        yield running


def client_for(server: BosServer, **settings: Any) -> BosClient:
    """The SDK's client, by the server's address."""
    settings = {"credentials": BceCredentials("ak", "sk"), "endpoint": server.url, **settings}
    return BosClient(BceClientConfiguration(**settings))


@pytest.fixture(autouse=True)
def sockets_of_the_sdk() -> Iterator[None]:
    """What the SDK leaves open is collected before another test would be blamed for it."""
    yield
    gc.collect()


@pytest.fixture
def sdk(server: BosServer) -> BosClient:
    """The SDK's client with right keys."""
    return client_for(server)


def call(server: BosServer, dialect: BosDialect, verb: str, request: Request, *args: object) -> Any:
    """Send one of our requests and read the answer with our dialect."""
    response: Response = ask(server, request)
    return getattr(dialect, f"{verb}_result")(*args, request, response)


def put(server: BosServer, key: str, body: bytes) -> str:
    dialect = dialect_for(server)
    return call(server, dialect, "put", dialect.put_request(key, body, META), key).etag


def head(server: BosServer, key: str) -> ObjectInfo | None:
    dialect = dialect_for(server)
    return call(server, dialect, "head", dialect.head_request(key), key)


def get(server: BosServer, key: str, size: int) -> bytes:
    dialect = dialect_for(server)
    content: Content = call(server, dialect, "get", dialect.get_request(key, 0, size - 1), key, 0, size - 1)
    return content.body


def upload(server: BosServer, key: str, blocks: list[bytes]) -> None:
    """A multipart upload by our dialect."""
    dialect = dialect_for(server)
    upload_id = call(server, dialect, "create", dialect.create_request(key, META), key)
    parts = [
        call(server, dialect, "part", dialect.part_request(key, upload_id, n, body), key, upload_id, n, body)
        for n, body in enumerate(blocks, 1)
    ]
    request = dialect.complete_request(key, upload_id, parts, META)
    call(server, dialect, "complete", request, key, upload_id)


def metadata(sdk: BosClient, key: str) -> dict[str, str]:
    """What the SDK says about an object."""
    return dict(sdk.get_object_meta_data(BUCKET, key).metadata.__dict__)


# ---- theirs on the server, ours on theirs ----------------------------------------------------------------


def test_what_the_sdk_puts_is_read_by_ours(server: BosServer, sdk: BosClient) -> None:
    """Content, size, ETag and the metadata that other tools of ours would have written."""
    content = b"hello from the sdk"
    meta = {"mtime": "1600000000.5", "syncd-xxh128": DIGEST.hex(), "syncd-upload": "t"}
    sdk.put_object_from_string(BUCKET, ODD_KEY, content, user_metadata=meta)
    found = head(server, ODD_KEY)
    expected = ObjectInfo(
        ODD_KEY,
        len(content),
        hashlib.md5(content).hexdigest(),
        DIGEST,
        1_600_000_000_500_000_000,
        "t",
        zlib.crc32(content),
        md5=hashlib.md5(content).digest(),
    )
    assert expected == found
    assert get(server, ODD_KEY, len(content)) == content


def test_what_ours_puts_is_read_by_the_sdk(server: BosServer, sdk: BosClient) -> None:
    """The same the other way; metadata that is not ASCII arrives percent-encoded, never garbled."""
    put(server, ODD_KEY, b"hello")
    assert sdk.get_object_as_string(BUCKET, ODD_KEY) == b"hello"
    found = metadata(sdk, ODD_KEY)
    assert found["content_type"] == "text/plain"
    assert found["bce_meta_mtime"] == "1600000000.123456789"
    assert found["bce_meta_syncd_xxh_128"] == DIGEST.hex()  # the SDK spells numbers apart
    assert found["bce_meta_syncd_upload"] == "t%C3%B8ken"
    assert found["etag"] == hashlib.md5(b"hello").hexdigest()


def test_both_multipart_uploads_make_the_same_object(
    server: BosServer, sdk: BosClient, tmp_path: Path
) -> None:
    """The SDK's own helper and our dialect: same content, same ETag, same CRC-32, which both sent."""
    blocks = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"tail"]
    content = b"".join(blocks)
    (tmp_path / "file").write_bytes(content)
    assert sdk.put_super_object_from_file(BUCKET, "theirs", str(tmp_path / "file"), chunk_size=5)
    upload(server, "ours", blocks)
    theirs, ours = head(server, "theirs"), head(server, "ours")
    assert theirs is not None
    assert ours is not None
    assert (ours.size, ours.etag, ours.crc32) == (theirs.size, theirs.etag, theirs.crc32)
    assert ours.crc32 == zlib.crc32(content)
    assert sdk.get_object_as_string(BUCKET, "ours") == content
    assert get(server, "theirs", len(content)) == content
    sent = {seen.key: seen.headers for seen in server.log if seen.op == "CompleteMultipartUpload"}
    assert sent["theirs"]["x-bce-content-crc32"] == sent["ours"]["x-bce-content-crc32"]


def test_the_sdk_resumes_what_ours_began_and_the_reverse(server: BosServer, sdk: BosClient) -> None:
    """Parts of the one are listed by the other, and both halves complete to one object."""
    dialect = dialect_for(server)
    blocks = [bytes([n]) * 5 * MIB for n in range(4)]
    upload_id = call(server, dialect, "create", dialect.create_request("k", META), "k")
    first = blocks[0]
    call(server, dialect, "part", dialect.part_request("k", upload_id, 1, first), "k", upload_id, 1, first)
    assert [part.part_number for part in sdk.list_all_parts(BUCKET, "k", upload_id)] == [1]
    for number in (2, 4):
        sdk.upload_part(BUCKET, "k", upload_id, number, 5 * MIB, io.BytesIO(blocks[number - 1]))
    listed, more = call(server, dialect, "parts", dialect.parts_request("k", upload_id, 0), "k", upload_id)
    assert [part.number for part in listed] == [1, 2, 4]
    assert more is None
    third = blocks[2]
    sent = call(
        server, dialect, "part", dialect.part_request("k", upload_id, 3, third), "k", upload_id, 3, third
    )
    assert [part.etag for part in listed][:1] == [hashlib.md5(first).hexdigest()]
    parts = sorted([*listed, sent], key=lambda part: part.number)
    sdk.complete_multipart_upload(
        BUCKET, "k", upload_id, [{"partNumber": part.number, "eTag": part.etag} for part in parts]
    )
    assert sdk.get_object_as_string(BUCKET, "k") == b"".join(blocks)


def test_copies_agree(server: BosServer, sdk: BosClient) -> None:
    """The SDK's copy keeps metadata, ours replaces it; both have the source's ETag; part copies too."""
    etag = put(server, "src", b"hello")
    sdk.copy_object(BUCKET, "src", BUCKET, "theirs", etag=etag)
    dialect = dialect_for(server)
    changed = ObjectMeta(Fingerprint(DIGEST, 5), 0, "new", content_type="text/html")
    receipt = call(server, dialect, "copy", dialect.copy_request("src", "ours", changed, etag), "ours")
    assert receipt.etag == etag == metadata(sdk, "theirs")["etag"]
    assert metadata(sdk, "theirs")["bce_meta_syncd_upload"] == "t%C3%B8ken"
    assert metadata(sdk, "ours")["bce_meta_syncd_upload"] == "new"
    assert metadata(sdk, "ours")["content_type"] == "text/html"
    upload_id = sdk.initiate_multipart_upload(BUCKET, "parts").upload_id
    sdk.upload_part_copy(BUCKET, "src", BUCKET, "parts", upload_id, 1, 5, 0, etag=etag)
    listed, _ = call(
        server, dialect, "parts", dialect.parts_request("parts", upload_id, 0), "parts", upload_id
    )
    assert listed == [Part(1, 5, etag, stored_ns=listed[0].stored_ns)]


@pytest.mark.parametrize("verb", ["PutObject", "CompleteMultipartUpload"])
@pytest.mark.parametrize("meant", ["nothing", "the object", "another"])
def test_conditions_agree(server: BosServer, sdk: BosClient, verb: str, meant: str) -> None:
    """The SDK's condition and ours are the same headers, and have the same end; what is refused stays."""
    etag = put(server, "k", b"before")
    replaces = {"nothing": "", "the object": etag, "another": "0" * 32}[meant]
    condition = {"If-None-Match": "*"} if meant == "nothing" else {"If-Match": f'"{replaces}"'}
    meta, dialect = replace(META, replaces=replaces), dialect_for(server)

    def by_ours() -> None:
        if verb == "PutObject":
            call(server, dialect, "put", dialect.put_request("k", b"after", meta), "k")
            return
        upload_id = call(server, dialect, "create", dialect.create_request("k", meta), "k")
        part = dialect.part_request("k", upload_id, 1, b"after")
        parts = [call(server, dialect, "part", part, "k", upload_id, 1, b"after")]
        complete = dialect.complete_request("k", upload_id, parts, meta)
        call(server, dialect, "complete", complete, "k", upload_id)

    def by_the_sdk() -> None:
        if verb == "PutObject":
            sdk.put_object_from_string(BUCKET, "k", "after", cond_read_write=condition)
            return
        upload_id = sdk.initiate_multipart_upload(BUCKET, "k").upload_id
        part = sdk.upload_part(BUCKET, "k", upload_id, 1, 5, io.BytesIO(b"after"))
        listed = [{"partNumber": 1, "eTag": part.metadata.etag}]
        sdk.complete_multipart_upload(BUCKET, "k", upload_id, listed, cond_read_write=condition)

    for replace_it, refusal in ((by_ours, PreconditionFailed), (by_the_sdk, BceHttpClientError)):
        server.log.clear()
        put(server, "k", b"before")
        with suppress(refusal):
            replace_it()
        seen = next(each for each in reversed(server.log) if each.op == verb)
        sent = {name: value for name in condition if (value := seen.headers.get(name.lower()))}
        assert (seen.status, sent) == (200 if meant == "the object" else 412, condition)
        assert get(server, "k", 6) == (b"after" if meant == "the object" else b"before")


def test_listings_and_removals_agree(server: BosServer, sdk: BosClient) -> None:
    """Pages of objects and uploads; abort, delete and delete of many; 404 for what is not there."""
    server.change({"page_size": 2})
    keys = [f"dir/{n}" for n in range(5)]
    for key in keys:
        put(server, key, key.encode())
    assert [item.key for item in sdk.list_all_objects(BUCKET)] == keys
    page = sdk.list_objects(BUCKET, prefix="d", delimiter="/")
    assert [item.prefix for item in page.common_prefixes] == ["dir/"]
    dialect = dialect_for(server)
    ids = [
        call(server, dialect, "create", dialect.create_request(f"up/{n}", META), f"up/{n}") for n in range(5)
    ]
    assert [item.upload_id for item in sdk.list_all_multipart_uploads(BUCKET)] == ids
    sdk.abort_multipart_upload(BUCKET, "up/0", ids[0])
    call(server, dialect, "abort", dialect.abort_request("up/0", ids[0]), "up/0", ids[0])
    call(server, dialect, "abort", dialect.abort_request("up/1", ids[1]), "up/1", ids[1])
    assert [item.upload_id for item in sdk.list_all_multipart_uploads(BUCKET)] == ids[2:]
    sdk.delete_object(BUCKET, keys[0])
    call(server, dialect, "delete", dialect.delete_request(keys[0]), keys[0])
    with pytest.raises(BceHttpClientError) as gone:
        sdk.delete_object(BUCKET, keys[0])
    assert gone.value.last_error.status_code == http.client.NOT_FOUND
    refused = sdk.delete_multiple_objects(BUCKET, keys[:3])
    assert [(error.key, error.code) for error in refused.errors] == [(keys[0], "NoSuchKey")]
    assert head(server, keys[1]) is None
    assert head(server, keys[3]) is not None


# ---- who the SDK is, to the server -----------------------------------------------------------------------


def test_the_server_judges_the_sdk_by_the_same_rules(server: BosServer) -> None:
    """Wrong secret, wrong clock and missing bucket are refused to the SDK too, with BOS's codes."""
    wrong = client_for(server, credentials=BceCredentials("ak", "wrong"))
    cases = [(wrong, BUCKET, "SignatureDoesNotMatch"), (client_for(server), "nobody", "NoSuchBucket")]
    for client, bucket, code in cases:
        with pytest.raises(BceHttpClientError) as refused:
            client.put_object_from_string(bucket, "k", "x")
        assert refused.value.last_error.code == code
    server.clock_offset = 3600
    with pytest.raises(BceHttpClientError) as skewed:
        client_for(server).put_object_from_string(BUCKET, "k", "x")
    assert skewed.value.last_error.code == "RequestTimeTooSkewed"


def test_the_sdk_with_temporary_keys(server: BosServer) -> None:
    """A session token is sent by the SDK as by ours, and the server takes both."""
    server.accounts["tmp"] = Account("tmp", "secret", "to+ken==", expires=time.time() + 3600)
    sdk = client_for(server, credentials=BceCredentials("tmp", "secret"), security_token="to+ken==")
    sdk.put_object_from_string(BUCKET, "k", "hello")
    assert get(server, "k", 5) == b"hello"


def test_the_sdk_in_virtual_host_style(server: BosServer) -> None:
    """By its official name, with the server as proxy: bucket in the host, as the real service wants it."""
    server.refuse_path_style = True
    sdk = client_for(server, endpoint="bj.bcebos.com", proxy_host="127.0.0.1", proxy_port=server.port)
    sdk.put_object_from_string(BUCKET, ODD_KEY, "hello")
    virtual = BosDialect(BosSettings(HttpSettings("http://bj.bcebos.com"), BUCKET))
    found = call(server, virtual, "head", virtual.head_request(ODD_KEY), ODD_KEY)
    assert found.size == 5
    assert {seen.headers["host"] for seen in server.log} == {"photos.bj.bcebos.com"}


def test_the_sdks_presigned_addresses_are_taken(server: BosServer, sdk: BosClient) -> None:
    """A signature in the query is as good as one in the header, while it lasts."""
    put(server, "k", b"hello")
    for lasting, expected in ((1800, 200), (10, 400)):
        url = sdk.generate_pre_signed_url(BUCKET, "k", int(time.time()) - 60, lasting).decode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", url.partition(f":{server.port}")[2])
        answer = connection.getresponse()
        assert answer.status == expected
        answer.read()
        connection.close()


# ---- what is written for people ---------------------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[2] / "docs" / "bos.md"
CHECK = Path(check.__file__).parent


def test_keys_below_v1_are_the_same_to_both(server: BosServer, sdk: BosClient) -> None:
    """Sent as `syncd check --thorough` proves it: the SDK lists, reads and deletes what we put."""
    settings = BosSettings(HttpSettings(server.url), BUCKET, keys=KeySettings("ak", "sk"))
    clock = Clock(time.time, lambda seconds: None, lambda: 0.5)
    doubled = StoreContext(clock, version_keys=Memory(lambda store_id: DOUBLED))
    with closing(open_store(settings, doubled)) as store:
        etag = store.put_object("v1/a b", b"x", META).etag
        store.copy_object("v1/a b", "V1/c", META, etag)
        listed = [found.key for found in store.list_objects("")]
        assert listed == [found.key for found in sdk.list_all_objects(BUCKET)] == ["V1/c", "v1/a b"]
        assert sdk.get_object_as_string(BUCKET, "v1/a b") == b"x"
        sdk.delete_object(BUCKET, "v1/a b")
        assert store.head_object("v1/a b") is None


def test_the_documents_name_probes_and_messages_that_exist() -> None:
    """What the page quotes from `syncd check --thorough` and from error messages is what they say."""
    text = DOCS.read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in CHECK.glob("*.py"))
    probes = {name for name, _ in check.PROBES} | set(re.findall(r'(?:report|run)\(\s*"([^"]+)"', code))
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| ")]
    quoted = {name for row in rows for name in re.findall(r'"([^"]+)"', row[-1])}
    assert {"smallest part", "complete twice"} <= quoted <= probes
    said = {refusal.text for refusal in (*http_errors.CODES.values(), bos_errors._PATH_STYLE)}
    table = text.partition("| message")[2].partition("\n\n")[0].splitlines()[2:]
    phrases = [phrase for row in table for phrase in row.strip("| ").split(" | ")[0].split(", ")]
    assert len(phrases) == 8
    assert [phrase for phrase in phrases if phrase not in said] == []

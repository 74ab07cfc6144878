"""What is done the quick way does not skip a check: each short cut beside the long way that it spares."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.errors import FileChanged, StoreRefused
from syncd.core.model import FileRef, FileStat, Fingerprint, Recorded
from syncd.sources import directories, files
from syncd.state.state import State
from syncd.storage.http.http1 import BadAnswerError, ResponseReader, request_head
from syncd.storage.http.messages import Credentials, Request
from syncd.storage.s3.signing import Signer
from syncd.transfer.upload.part_sender import content_type_of

MIB = 1 << 20
STAT = FileStat(device=1, inode=2, size=5, mtime_ns=3, ctime_ns=4)
RECORDED = Recorded(STAT, Fingerprint(b"c" * 16, 5), "s3:host/bucket", "a", "etag", 5)
KEYS = Credentials("AKIAEXAMPLE", "secret")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(str(tmp_path / "state"), now_ns=time.time_ns)
    yield opened
    opened.close()


# ---- memory for parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_a_large_read_holds_what_the_file_had_then(tmp_path: Path, size: int) -> None:
    """A part in memory of its own is exact, and whatever happens to the file afterwards is not seen in it."""
    content = bytes(range(256)) * (size // 256 + 2)
    path = tmp_path / "file"
    path.write_bytes(content)
    root_fd = directories.open_root(str(tmp_path))
    with files.open_file(root_fd, "file") as file:
        body = file.read(3, size)
        path.write_bytes(b"")

        assert bytes(body) == content[3 : 3 + size]


@pytest.mark.parametrize("size", [MIB - 1, MIB, 4 * MIB])
def test_a_large_read_behind_the_end_is_told(tmp_path: Path, size: int) -> None:
    """One byte too few is a changed file, not a part that ends in zeros."""
    (tmp_path / "file").write_bytes(b"x" * (size - 1))
    root_fd = directories.open_root(str(tmp_path))
    with files.open_file(root_fd, "file") as file, pytest.raises(FileChanged, match="shortened"):
        file.read(0, size)


def test_the_stat_of_an_opened_file_is_the_one_before_its_first_byte(tmp_path: Path) -> None:
    """What changes after the open shows: the stat kept from the open is another one than that of now."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    root_fd = directories.open_root(str(tmp_path))
    with files.open_file(root_fd, "file") as file:
        at_open = files.look(root_fd, "file")
        path.write_bytes(b"three")

        assert file.opened == at_open
        assert file.stat() != file.opened


# ---- the state --------------------------------------------------------------------------------------------


def test_what_came_in_since_the_database_was_empty_is_found_at_once(state: State) -> None:
    """Files and contents without a commit need no question; all that were committed are still found."""
    refs = [FileRef("s", f"f{number}") for number in range(300)]
    contents = [Fingerprint(number.to_bytes(16, "big"), 5) for number in range(300)]
    for number, (ref, content) in enumerate(zip(refs, contents, strict=True)):
        assert state.recorded(ref) is None
        assert [*state.find_content("s3:host/bucket", content)] == []
        state.commit(ref, replace(RECORDED, fingerprint=content), durable=number % 3 == 0)
        assert [*state.find_content("s3:host/bucket", content)] != []
        assert state.recorded(ref) is not None
    state.forget(refs[0])
    assert state.recorded(refs[0]) is None
    state.commit(refs[0], RECORDED)
    assert state.recorded(refs[0]) == RECORDED


def test_a_database_with_rows_is_always_asked(tmp_path: Path) -> None:
    """What another process committed is not known here, and is found nevertheless."""
    for name in ("first", "second", "third"):
        state = State.open(str(tmp_path), now_ns=time.time_ns)
        state.commit(FileRef("s", name), RECORDED)
        state.close()
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    found = state.find_content(RECORDED.store_id, RECORDED.fingerprint)
    assert {ref.path for ref, _ in found} == {"first", "second", "third"}
    assert state.recorded(FileRef("s", "second")) == RECORDED
    state.close()


def test_a_reader_beside_a_daemon_with_an_empty_database_is_told_what_comes_in(tmp_path: Path) -> None:
    """`status` opens the database before the first file is there."""
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    beside = State.open_read_only(str(tmp_path))
    state.commit(FileRef("s", "a"), RECORDED)
    assert beside.recorded(FileRef("s", "a")) == RECORDED
    beside.close()
    state.close()


def test_the_first_row_of_a_source_and_of_a_store_goes_in_like_any_other(state: State) -> None:
    """Sources and stores get their numbers with their first file, joined or not, and the counters follow."""
    refs = [FileRef(source, name) for source in ("one", "two") for name in ("a", "b")]
    for number, ref in enumerate(refs):
        row = replace(RECORDED, store_id=f"store {number % 2}")
        state.commit(ref, row, durable=number > 1)

    assert [state.recorded(ref) for ref in refs] == [
        replace(RECORDED, store_id=f"store {number % 2}") for number in range(4)
    ]
    assert [state.recorded_totals(source) for source in ("one", "two")] == [(2, 10), (2, 10)]


@pytest.mark.parametrize("durable", [True, False])
def test_known_content_is_found_wherever_it_is(state: State, durable: bool) -> None:
    """On the disk or still joined, recorded content is found; once the row is another one, it is not."""
    ref, content = FileRef("one", "a"), RECORDED.fingerprint
    state.commit(ref, RECORDED, durable=durable)

    assert [*state.find_content(RECORDED.store_id, content)] == [(ref, RECORDED)]

    state.commit(ref, replace(RECORDED, fingerprint=Fingerprint(b"d" * 16, 5)), durable=durable)

    assert [*state.find_content(RECORDED.store_id, content)] == []


# ---- requests ---------------------------------------------------------------------------------------------


NAMES = st.sampled_from(["x-amz-meta-a", "x-amz-meta-a-b", "Content-Type", "range", "content-length", "host"])


@given(st.lists(st.dictionaries(NAMES, st.text("a \t~=", max_size=6)), min_size=1, max_size=6))
def test_what_was_signed_before_leaves_no_trace(requests: list[dict[str, str]]) -> None:
    """A signer that has signed others' headers signs these as a new one does."""
    used = Signer("us-east-1")
    for number, extra in enumerate(requests):
        headers = {"host": "h", **extra, "x-amz-date": f"2026010{1 + number % 2}T000000Z"}
        given_ = ("PUT", "/b/k", (), headers, "UNSIGNED-PAYLOAD", KEYS)

        assert used.authorization(*given_) == Signer("us-east-1").authorization(*given_)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\x00b", "a\x7fb", "é"])
def test_no_header_breaks_out_of_its_line(value: str) -> None:
    """The quick look at all headers at once finds what the slow one found."""
    with pytest.raises(StoreRefused):
        request_head(Request("PUT", "host", "/b/k", headers={"x-amz-meta-a": value}), "agent")


def test_a_tab_in_a_header_is_no_control_character() -> None:
    """HTTP allows it, and so do we."""
    head = request_head(Request("PUT", "host", "/b/k", headers={"x-amz-meta-a": "a\tb"}), "agent")

    assert b"x-amz-meta-a: a\tb\r\n" in head


@pytest.mark.parametrize(
    ("connection", "reusable"), [("close", False), ("x, CLOSE ,y", False), ("closed", True)]
)
def test_a_connection_that_ends_is_not_used_again(connection: str, reusable: bool) -> None:
    """The token counts, wherever it stands in the list."""
    reader = ResponseReader("PUT", 100)
    reader.feed(f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n".encode())

    assert reader.reusable is reusable


@pytest.mark.parametrize("line", [b"no colon", b": no name", b" space: before", b"space : behind"])
def test_a_header_that_cannot_be_read_is_no_answer(line: bytes) -> None:
    """Where servers and proxies may disagree about what a line means, nothing is believed."""
    with pytest.raises(BadAnswerError):
        ResponseReader("PUT", 100).feed(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/photo.JPG", "image/jpeg"),
        ("page.html", "text/html"),
        ("data.tar.gz", "application/octet-stream"),
        ("page.html.gz", "application/octet-stream"),
        ("a.html/plain", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file_comes_from_its_extension(path: str, kind: str) -> None:
    """The last extension alone decides, and packed content is never called by what is inside."""
    assert content_type_of(path) == kind

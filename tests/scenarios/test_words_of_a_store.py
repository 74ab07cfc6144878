"""Whatever text a store sends, no command writes it in a form that a terminal or a reader of logs obeys."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields, replace

from syncd.cli import sync
from syncd.core.errors import PreconditionFailed, StoreError, StoreRefused, StoreUnavailable
from syncd.core.model import ObjectInfo, UploadInfo
from syncd.pipeline import pipeline, store_runner
from syncd.storage import opening
from syncd.storage.base import StoreLimits
from tests.support.store import SMALL_LIMITS, VERBS, FakeStore
from tests.unit.cli.home import Home

FORGED = "\nFORGED 2026-01-31T12:00:00+0100 INFO syncd.transfer: docs:a: uploaded\r"
WORDS = st.text(alphabet=st.sampled_from("\x1b\x9b\x07\x00\r\x85\u2028\u202e\u200b[2JaK;m"), max_size=8).map(
    lambda text: f"{text}\x1b]0;x\x07{FORGED}"
)
COMMANDS = (
    ("sync",), ("sync", "-v"), ("sync", "-n"), ("check",), ("check", "--thorough"), ("verify",),
    ("verify", "--read"), ("verify", "--repair"), ("restamp",), ("adopt",), ("uploads",),
    ("uploads", "--abort-orphans", "--older-than", "0"), ("status",), ("pending",), ("history",),
    ("explain", "{folder}/a"), ("status", "{folder}/a"), ("restore", "--to", "{root}/back", "--dry-run"),
    ("restore", "--to", "{root}/back"),
    ("restore", "--store", "mirror", "--prefix", "", "--to", "{root}/other"),
)  # fmt: skip


class Talkative:
    """A store that appends its words to all that it says, and lists an object and an upload named by them.

    `verb` is refused with an error that is full of them.
    """

    def __init__(self, words: str, verb: str, error: type[StoreError]) -> None:
        self._inner = FakeStore(SMALL_LIMITS)
        self._words = words
        if verb in VERBS:
            failure = error(words, status=400, code=words, request_id=words, hint=words)
            self._inner.fail(verb, failure, times=None)
        self.store_id = "talkative"

    @property
    def limits(self) -> StoreLimits:
        return self._inner.limits

    def close(self) -> None:
        """It stays for the next command."""

    def list_objects(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        yield from map(self._said, self._inner.list_objects(prefix, after))
        yield ObjectInfo(f"{prefix}z{self._words}", 3, f"e{self._words}")

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        yield from map(self._said, self._inner.list_multipart_uploads(prefix))
        yield UploadInfo(f"{prefix}z{self._words}", f"id{self._words}", 1)

    def __getattr__(self, name: str) -> Any:
        call: Callable[..., Any] = getattr(self._inner, name)
        return lambda *given: self._said(call(*map(self._heard, given)))

    def _said(self, value: Any) -> Any:
        if isinstance(value, str):
            return value + self._words
        if isinstance(value, list):
            return [self._said(each) for each in value]
        if isinstance(value, Struct):
            texts = {
                each.name: self._said(found)
                for each in fields(value)
                if each.name != "key" and isinstance(found := getattr(value, each.name), str) and found
            }
            return replace(value, **texts)
        return value

    def _heard(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.removesuffix(self._words)
        if isinstance(value, list | tuple):
            return [self._heard(each) for each in value]
        if isinstance(value, Struct) and hasattr(value, "etag"):
            return replace(value, etag=self._heard(value.etag))
        return value


@given(
    WORDS,
    st.sampled_from([*VERBS, "nothing"]),
    st.sampled_from([StoreRefused, StoreUnavailable, PreconditionFailed]),
)
@example(FORGED, "nothing", StoreRefused)
@example(FORGED, "abort_multipart_upload", StoreUnavailable)
@settings(max_examples=4, phases=(Phase.explicit, Phase.generate))  # each takes a second
def test_nothing_that_a_store_says_is_obeyed(words: str, verb: str, error: type[StoreError]) -> None:
    """Every line that a command prints, and each of its log, consists of what can be shown."""
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory))
        (home.watched / "a").write_bytes(b"content")
        (home.watched / "large").write_bytes(bytes(SMALL_LIMITS.max_put_size + 1))
        store = Talkative(words, verb, error)
        with ExitStack() as patches:
            for user in (opening, pipeline, store_runner, sync):
                patches.enter_context(patch.object(user, "open_store", lambda *given: store))
            for command in COMMANDS:
                names = {"folder": home.watched, "root": home.root}
                found = home.run(*(part.format(**names) for part in command))
                for line in found.output.split("\n"):
                    assert line.isprintable(), (command, line)
                    assert not line.startswith("FORGED"), (command, found.output)
                assert found.exception is None or isinstance(found.exception, SystemExit), command
    for handler in logging.getLogger().handlers[:]:
        if type(handler).__module__ == "syncd.daemon.logs":
            logging.getLogger().removeHandler(handler)

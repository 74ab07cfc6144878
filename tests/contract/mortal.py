"""A process that does one thing to a `dir` store and dies at a given system call, without any farewell.

`Mortals` starts one helper process, which forks a child for each death: the child performs a deed of `DEEDS`
and ends by ``_exit`` before or after its n-th call of the functions in `CALLS`. The points of death are thus
what the code really does; there is no list by hand.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import xxhash

from syncd.core.model import Fingerprint, ObjectMeta, Part
from syncd.storage.digests import zeros
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings

CALLS = (
    "open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir", "link", "utime", "setxattr",
    "copy_file_range",
)  # fmt: skip
DEAD = 9
"""Exit status of a child that died where it was told."""


def meta_of(body: bytes, token: str = "new") -> ObjectMeta:
    return ObjectMeta(Fingerprint(xxhash.xxh3_128_digest(body), len(body)), 1_500_000_000_000_000_007, token)


def _put(store: DirStore, facts: dict[str, Any]) -> None:
    body = facts["body"].encode()
    store.put_object(facts["key"], body, meta_of(body))


def _copy(store: DirStore, facts: dict[str, Any]) -> None:
    store.copy_object(facts["source"], facts["key"], meta_of(facts["body"].encode()), "")


def _delete(store: DirStore, facts: dict[str, Any]) -> None:
    store.delete_object(facts["key"])


def _create(store: DirStore, facts: dict[str, Any]) -> None:
    store.create_multipart_upload(facts["key"], meta_of(facts["body"].encode()))


def part_body(text: str) -> bytes | memoryview:
    """The body of a part, which is a hole where the text is all zeros."""
    return text.encode() if text.strip("\0") else zeros(len(text))


def _part(store: DirStore, facts: dict[str, Any]) -> None:
    store.upload_part(facts["key"], facts["upload"], 2, part_body(facts["body"]))


def _complete(store: DirStore, facts: dict[str, Any]) -> None:
    parts = [Part(number, size, etag) for number, size, etag in facts["parts"]]
    store.complete_multipart_upload(facts["key"], facts["upload"], parts, meta_of(facts["body"].encode()))


def _abort(store: DirStore, facts: dict[str, Any]) -> None:
    store.abort_multipart_upload(facts["key"], facts["upload"])


DEEDS: dict[str, Callable[[DirStore, dict[str, Any]], None]] = {
    "put": _put,
    "copy": _copy,
    "delete": _delete,
    "create": _create,
    "part": _part,
    "complete": _complete,
    "abort": _abort,
}


class Mortals:
    """Lets children die. A context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.mortal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
            text=True,
        )

    def __enter__(self) -> Mortals:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def dies(self, deed: str, root: str, *, at: int, after: bool, attributes: bool, **facts: Any) -> bool:
        """Whether a child that was to die at its `at`-th call did; False: it was done before."""
        order = {"deed": deed, "root": root, "at": at, "after": after, "attributes": attributes, **facts}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        assert status in (0, DEAD), f"{deed} ended with {status}"
        return status == DEAD


def lay_mines(
    at: int, after: bool, names: Sequence[str] = CALLS, others: Sequence[tuple[object, str]] = ()
) -> None:
    """From now on the `at`-th call (from 1) of any of these functions of `os`, and of the `others` (where and
    how they are called), is the last thing that happens.
    """
    count = 0

    def mined(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == at and not after:
                os._exit(DEAD)
            try:
                return call(*arguments, **more)
            finally:
                if count == at:
                    os._exit(DEAD)

        return step

    for place, name in (*((os, name) for name in names), *others):
        setattr(place, name, mined(getattr(place, name)))


def refuse_attributes() -> None:
    """Behave as on a file system without extended attributes."""

    def refuse(*_: object, **__: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    os.setxattr = refuse
    os.getxattr = refuse


def _child(order: dict[str, Any]) -> None:
    if not order["attributes"]:
        refuse_attributes()
    store = DirStore(DirSettings(order["root"]))
    store.head_object("nothing")  # the marker is looked at once; that is not what dies here
    lay_mines(order["at"], order["after"])
    DEEDS[order["deed"]](store, order)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _child(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

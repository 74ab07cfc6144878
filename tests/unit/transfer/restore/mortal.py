"""A process that restores the same objects again and again, and dies at a given system call of each restore.

Reads lines ``AT TARGET`` and answers each with the exit status of a child that was forked for it: `DEAD` if
it died before its ``AT``-th call (from 1), 0 if it came to its end first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import xxhash

from syncd.core.model import Attributes, Fingerprint, ObjectMeta
from syncd.core.paths import LINK
from syncd.core.restoring import Overwrite
from syncd.transfer.restore import draft, folder
from syncd.transfer.restore.disks import Disks
from tests.contract.mortal import CALLS, lay_mines
from tests.support.store import FakeStore
from tests.unit.transfer.restore.restoring import MTIME_NS, PART, content, put, restore

OBJECTS = {
    "a": b"small",
    "sub/deep/b": content(PART),
    "large": content(2 * PART) + bytes(PART) + content(77),
    "replaced": b"the new content",
}
OLD = b"the old content"
MORE = ("pwrite", "ftruncate", "fchmod", "symlink", "unlink")
OTHERS = ((Disks, "sync"), (draft, "_rename_new"))
LINKS = {"link": b"nowhere", "leads elsewhere": b"there"}
FOLDERS, FOLDER_MODE = ("empty", "sub", "sub/deep"), 0o510


def filled() -> FakeStore:
    """The store of the dying process and of the one after it."""
    store = FakeStore()
    for key, body in OBJECTS.items():
        put(store, key, body)
    for name, target in LINKS.items():
        meta = ObjectMeta(Fingerprint(xxhash.xxh3_128_digest(target), len(target)), MTIME_NS, is_link=True)
        store.put_object(name + LINK, target, meta)
    attributes = Attributes(FOLDER_MODE)
    meta = ObjectMeta(
        Fingerprint(xxhash.xxh3_128_digest(b""), 0), MTIME_NS, is_folder=True, attributes=attributes
    )
    for name in FOLDERS:
        store.put_object(f"{name}/", b"", meta)
    return store


def main() -> None:
    for line in sys.stdin:
        at, _, target = line.rstrip("\n").partition(" ")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                store = filled()
                lay_mines(int(at), after=False, names=(*CALLS, *MORE), others=OTHERS)
                folder._WORTH_ALL = 2  # so that the few files are made durable together
                restore(store, Path(target), overwrite=Overwrite.ALWAYS, concurrency=1)
                status = 0
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

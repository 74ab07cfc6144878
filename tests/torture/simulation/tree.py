"""Directories, files, links and fifos in memory, as a Linux file system keeps them.

Timestamps are the wall clock's, cut to a granularity. Numbers of inodes are used again as soon as they are
free, the lowest first. A directory is listed in the order of cookies that are drawn when a name is made, so
that a name that moves during a listing may be missed or met twice, as on a real disk.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import stat as modes
from collections.abc import Callable, Iterator

MAX_LINKS = 40
"""Symbolic links that one path may lead through."""

R, W, X = 4, 2, 1


def failure(number: int, path: object = None) -> OSError:
    """The kernel's no."""
    return OSError(number, os.strerror(number), path)


class Node:
    """One inode."""

    __slots__ = (
        "cookies", "ctime_ns", "data", "entries", "inode", "kind", "links", "mode", "mtime_ns", "opened",
        "parent", "torn", "true_ns", "volume", "writers",
    )  # fmt: skip

    def __init__(self, volume: Volume, inode: int, kind: int, mode: int) -> None:
        self.volume = volume
        self.inode = inode
        self.kind = kind
        """`stat.S_IFREG`, `S_IFDIR`, `S_IFLNK` or `S_IFIFO`."""
        self.mode = mode
        self.data = b""
        """Content; of a symbolic link, where it leads."""
        self.entries: dict[bytes, Node] = {}
        self.cookies: dict[bytes, int] = {}
        self.parent: Node = self
        self.links = 0
        self.opened = 0
        self.writers = 0
        """Of the descriptors that are open, those that may write."""
        self.torn = False
        """It is in the middle of one long write."""
        self.mtime_ns = self.ctime_ns = 0
        self.true_ns = 0
        """When it changed last, on a clock that cannot be set."""

    @property
    def is_directory(self) -> bool:
        return self.kind == modes.S_IFDIR

    def below(self) -> Iterator[tuple[bytes, Node]]:
        """Everything below a directory, with paths relative to it."""
        for name, child in sorted(self.entries.items()):
            yield name, child
            if child.is_directory:
                for path, node in child.below():
                    yield name + b"/" + path, node


class Volume:
    """A file system with a device number, an id and inodes of its own."""

    def __init__(self, device: int, number: int = 0) -> None:
        self.device = device
        self.number = number or device
        """The id that statfs(2) tells: it stays when the device gets another number."""
        self._free: list[int] = []
        self._next = 2
        self.root = self.make(modes.S_IFDIR, 0o755)
        self.root.links = 1

    def make(self, kind: int, mode: int) -> Node:
        """An inode without a name."""
        if self._free:
            return Node(self, heapq.heappop(self._free), kind, mode)
        self._next += 1
        return Node(self, self._next - 1, kind, mode)

    def release(self, node: Node) -> None:
        """Its number may be given away, if neither a name nor a descriptor leads to it."""
        if node.links <= 0 and node.opened == 0:
            heapq.heappush(self._free, node.inode)


class Tree:
    """The whole name space: a volume for ``/``, others mounted on directories."""

    def __init__(
        self,
        now_ns: Callable[[], int],
        true_ns: Callable[[], int],
        *,
        granularity_ns: int = 1,
        chance: random.Random | None = None,
    ) -> None:
        self._now_ns = now_ns
        self._true_ns = true_ns
        self.granularity_ns = granularity_ns
        self._chance = chance or random.Random(0)
        self.root = Volume(1).root
        self.mounts: dict[Node, Volume] = {}

    # ---- time -------------------------------------------------------------------------------------------

    def stamp(self, node: Node, *, content: bool = True) -> None:
        """The node changed: its content (or the names in it), or only what is known about it.

        A wall clock that was set back may bring the very tick again in which a file changed hours before. No
        client can see a change that leaves size, times and inode equal and sends no event, so the fake
        leaves such a tick out; one real tick later a change is as invisible as the granularity makes it.
        """
        now = self._now_ns() // self.granularity_ns * self.granularity_ns
        if now == node.ctime_ns and self._true_ns() - node.true_ns > self.granularity_ns:
            now += self.granularity_ns
        node.ctime_ns, node.true_ns = now, self._true_ns()
        if content:
            node.mtime_ns = now

    # ---- names ------------------------------------------------------------------------------------------

    def seen_at(self, node: Node) -> Node:
        """What one sees at a directory: what is mounted there, if anything is."""
        volume = self.mounts.get(node)
        return volume.root if volume is not None else node

    def find(
        self, start: Node, path: bytes, *, follow: bool, allowed: Callable[[Node, int], None]
    ) -> tuple[Node, bytes, Node | None]:
        """Parent, last name and node of a path; no node where only the last name leads nowhere."""
        if not path:
            raise failure(errno.ENOENT, path)
        node = self.seen_at(self.root) if path.startswith(b"/") else start
        parent, last = node, b"."
        todo = [part for part in reversed(path.split(b"/")) if part]
        must_be_directory = path.endswith(b"/")
        links = 0
        while todo:
            if not node.is_directory:
                raise failure(errno.ENOTDIR, path)
            allowed(node, X)
            name = todo.pop()
            if name == b".":
                parent, last = node, name
                continue
            child = node.entries.get(name)
            if child is None:
                if todo:
                    raise failure(errno.ENOENT, path)
                return node, name, None
            if child.kind == modes.S_IFLNK and (todo or follow or must_be_directory):
                links += 1
                if links > MAX_LINKS:
                    raise failure(errno.ELOOP, path)
                todo += [part for part in reversed(child.data.split(b"/")) if part]
                node = self.seen_at(self.root) if child.data.startswith(b"/") else node
                continue
            parent, last, node = node, name, self.seen_at(child)
        if must_be_directory and not node.is_directory:
            raise failure(errno.ENOTDIR, path)
        return parent, last, node

    def enter(self, parent: Node, name: bytes, node: Node) -> None:
        """Give a node a name."""
        if parent.links <= 0:
            raise failure(errno.ENOENT, name)  # the directory was removed while a process held it
        parent.entries[name] = node
        parent.cookies[name] = self._chance.randrange(1 << 30)
        node.links += 1
        if node.is_directory:
            node.parent = parent
        self.stamp(parent)

    def leave(self, parent: Node, name: bytes) -> Node:
        """Take a name away; the node goes with its last one."""
        node = parent.entries.pop(name)
        del parent.cookies[name]
        node.links -= 1
        self.stamp(parent)
        return node

    def listing(self, directory: Node) -> Iterator[tuple[bytes, Node]]:
        """The names, in the order of their cookies, each looked up when it is its turn."""
        done: tuple[int, bytes] = (-1, b"")
        while True:
            left = [(cookie, name) for name, cookie in directory.cookies.items() if (cookie, name) > done]
            if not left:
                return
            done = min(left)
            yield done[1], directory.entries[done[1]]

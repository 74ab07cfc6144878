"""Maps watches to directories and back: a tree keyed both ways.

Every watched directory is a node that knows its parent, its name and its children by name; walking up gives
its path. So renaming a directory moves one node, however much is below it, and what is below a directory is
found without a search. Pure: nothing here asks the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator


class Node:
    """A directory of a source. `watch` is its inotify watch, None once the kernel has ended it."""

    __slots__ = ("children", "name", "parent", "source", "watch", "wide")

    def __init__(self, source: str, parent: Node | None, name: str, watch: int) -> None:
        self.source = source
        self.parent = parent
        self.name = name
        self.watch: int | None = watch
        self.children: dict[str, Node] = {}
        self.wide = False
        """Changed attributes are watched, too, because something in it cannot be watched yet."""


class WatchMap:
    """The watched directories of all sources."""

    def __init__(self) -> None:
        self._roots: dict[str, Node] = {}
        self._by_watch: dict[int, Node] = {}
        self._counts: dict[str, int] = {}

    def count(self, source: str) -> int:
        """Return how many directories of this source have a watch."""
        return self._counts.get(source, 0)

    def root(self, source: str) -> Node | None:
        """Return the source's root; None: it is not watched."""
        return self._roots.get(source)

    def by_watch(self, watch: int) -> Node | None:
        """Return the directory with this watch; None: unknown."""
        return self._by_watch.get(watch)

    def find(self, source: str, path: str) -> Node | None:
        """Return the directory at this path relative to the source's root; '' is the root."""
        node = self._roots.get(source)
        for name in path.split("/") if path else ():
            node = node.children.get(name) if node else None
        return node

    def path(self, node: Node) -> str | None:
        """Return the path relative to the source's root, '' for the root; None: the node is detached."""
        names = []
        top = node
        while top.parent is not None:
            names.append(top.name)
            top = top.parent
        return "/".join(reversed(names)) if self._roots.get(node.source) is top else None

    def contains(self, ancestor: Node, node: Node) -> bool:
        """Return whether `node` is `ancestor` or below it."""
        step: Node | None = node
        while step is not None and step is not ancestor:
            step = step.parent
        return step is ancestor

    def add_root(self, source: str, watch: int) -> Node:
        """Add a root; the old one must have been forgotten."""
        assert source not in self._roots
        self._roots[source] = node = Node(source, None, "", watch)
        self._register(node, watch)
        return node

    def add(self, parent: Node, name: str, watch: int) -> Node:
        """Add a directory in `parent`, where no other may have the name."""
        assert name not in parent.children
        parent.children[name] = node = Node(parent.source, parent, name, watch)
        self._register(node, watch)
        return node

    def detach(self, node: Node) -> None:
        """Take a directory, with everything below it, out of its place; its watches stay known."""
        if node.parent is not None:
            del node.parent.children[node.name]
            node.parent = None

    def move(self, node: Node, parent: Node, name: str) -> None:
        """Put a directory, with everything below it, into another place of its source, in one step."""
        assert node.source == parent.source
        assert name not in parent.children
        assert not self.contains(node, parent)
        self.detach(node)
        node.parent, node.name = parent, name
        parent.children[name] = node

    def release(self, node: Node) -> None:
        """Note that the kernel ended this watch. The directory keeps its place until the next look."""
        if node.watch is not None:
            del self._by_watch[node.watch]
            node.watch = None
            self._counts[node.source] -= 1

    def forget(self, node: Node) -> list[int]:
        """Remove a directory and everything below it; return the watches that they had."""
        self.detach(node)
        if self._roots.get(node.source) is node:
            del self._roots[node.source]
        watches = []
        for each in self._below(node):
            if each.watch is not None:
                watches.append(each.watch)
                self.release(each)
        return watches

    def _register(self, node: Node, watch: int) -> None:
        assert watch not in self._by_watch
        self._by_watch[watch] = node
        self._counts[node.source] = self._counts.get(node.source, 0) + 1

    def _below(self, node: Node) -> Iterator[Node]:
        waiting = [node]
        while waiting:
            each = waiting.pop()
            waiting.extend(each.children.values())
            yield each

"""The map of watched directories: both ways, and moves that do not touch what is below."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from syncd.sources.watch.map import Node, WatchMap


@pytest.fixture
def tree() -> WatchMap:
    """``a/b/c`` below the root of ``docs``, watches 1 to 4."""
    watchmap = WatchMap()
    parent = watchmap.add_root("docs", 1)
    for watch, name in enumerate("abc", start=2):
        parent = watchmap.add(parent, name, watch)
    return watchmap


def found(watchmap: WatchMap, watch: int) -> Node:
    node = watchmap.by_watch(watch)
    assert node is not None
    return node


def test_path_and_watch_lead_to_the_same_directory(tree: WatchMap) -> None:
    """A directory is found by its watch and by its path, and knows its path."""
    node = found(tree, 4)

    assert (tree.path(node), tree.find("docs", "a/b/c")) == ("a/b/c", node)


def test_root_has_the_empty_path(tree: WatchMap) -> None:
    """The root's path is '', and '' leads to the root."""
    root = tree.root("docs")

    assert root is not None
    assert (tree.path(root), tree.find("docs", "")) == ("", root)


def test_nothing_at_unknown_places(tree: WatchMap) -> None:
    """What is not in the map is None, whichever way one asks."""
    assert [
        tree.find("docs", "a/x"), tree.find("docs", "a/x/y"), tree.find("other", "a"), tree.root("other"),
        tree.by_watch(9),
    ] == [None] * 5  # fmt: skip


def test_move_takes_everything_below_along(tree: WatchMap) -> None:
    """After a move the directories below have new paths, and the old ones lead nowhere."""
    root = found(tree, 1)
    tree.move(found(tree, 2), root, "z")

    assert [tree.path(found(tree, watch)) for watch in (2, 3, 4)] == ["z", "z/b", "z/b/c"]
    assert tree.find("docs", "a") is None


def test_move_of_a_large_tree_touches_one_node() -> None:
    """Renaming a directory changes that node and its parent only, however many are below."""
    watchmap = WatchMap()
    root = watchmap.add_root("docs", 1)
    top = watchmap.add(root, "top", 2)
    below = [watchmap.add(top, f"d{number}", number) for number in range(3, 5_003)]
    before = [(node.parent, node.name, node.watch, dict(node.children)) for node in below]

    for number in range(1_000):
        watchmap.move(top, root, f"top{number}")

    assert [(node.parent, node.name, node.watch, node.children) for node in below] == before
    assert watchmap.path(below[-1]) == "top999/d5002"


def test_detached_directory_has_no_path_but_keeps_its_watch(tree: WatchMap) -> None:
    """What has left its place is still known by its watch, and so is what is below it."""
    tree.detach(found(tree, 3))

    assert [tree.path(found(tree, watch)) for watch in (1, 2, 3, 4)] == ["", "a", None, None]
    assert tree.count("docs") == 4


def test_forget_gives_back_the_watches_of_the_whole_subtree(tree: WatchMap) -> None:
    """Forgetting a directory forgets everything below it, and says which watches that frees."""
    freed = tree.forget(found(tree, 3))

    assert sorted(freed) == [3, 4]
    assert (tree.by_watch(4), tree.find("docs", "a/b"), tree.count("docs")) == (None, None, 2)


def test_forgotten_root_makes_room_for_another(tree: WatchMap) -> None:
    """After its root was forgotten a source is not in the map, and can be planted again."""
    assert sorted(tree.forget(found(tree, 1))) == [1, 2, 3, 4]

    again = tree.add_root("docs", 1)

    assert (tree.count("docs"), tree.path(again)) == (1, "")


def test_released_directory_keeps_its_place(tree: WatchMap) -> None:
    """A watch that the kernel ended leads nowhere; its directory stays until a scan has looked."""
    node = found(tree, 3)
    tree.release(node)
    tree.release(node)

    assert (tree.by_watch(3), node.watch, tree.path(node), tree.count("docs")) == (None, None, "a/b", 3)
    assert tree.forget(node) == [4]


def test_contains_is_about_the_whole_way_up(tree: WatchMap) -> None:
    """A directory contains itself and what is below it, not what is above."""
    a, c = found(tree, 2), found(tree, 4)

    assert [tree.contains(a, c), tree.contains(a, a), tree.contains(c, a)] == [True, True, False]


def test_directory_cannot_be_moved_into_itself(tree: WatchMap) -> None:
    """A cycle is refused: paths would never end."""
    with pytest.raises(AssertionError):
        tree.move(found(tree, 2), found(tree, 4), "loop")


class MapAgainstPaths(RuleBasedStateMachine):
    """The map compared with the plainest model that there is: a dictionary of watch -> path."""

    nodes = Bundle("nodes")

    def __init__(self) -> None:
        super().__init__()
        self.map = WatchMap()
        self.map.add_root("docs", 0)
        self.paths: dict[int, str] = {0: ""}
        self.next_watch = 1

    def _parent(self, pick: int) -> int:
        return sorted(self.paths)[pick % len(self.paths)]

    @rule(target=nodes, pick=st.integers(0, 1000), name=st.sampled_from("abcd"))
    def add(self, pick: int, name: str) -> object:
        parent = self._parent(pick)
        path = f"{self.paths[parent]}/{name}".lstrip("/")
        if path in self.paths.values():
            return multiple()
        watch, self.next_watch = self.next_watch, self.next_watch + 1
        self.map.add(found(self.map, parent), name, watch)
        self.paths[watch] = path
        return watch

    @rule(watch=nodes, pick=st.integers(0, 1000), name=st.sampled_from("abcd"))
    def move(self, watch: int, pick: int, name: str) -> None:
        parent = self._parent(pick)
        old, into = self.paths.get(watch), self.paths[parent]
        new = f"{into}/{name}".lstrip("/")
        if old is None or new in self.paths.values() or f"{into}/".startswith(f"{old}/"):
            return
        self.map.move(found(self.map, watch), found(self.map, parent), name)
        for each, path in self.paths.items():
            if path == old or path.startswith(f"{old}/"):
                self.paths[each] = new + path[len(old) :]

    @rule(watch=consumes(nodes))
    def forget(self, watch: int) -> None:
        old = self.paths.get(watch)
        if old is None:
            return
        gone = {each for each, path in self.paths.items() if path == old or path.startswith(f"{old}/")}
        assert set(self.map.forget(found(self.map, watch))) == gone
        for each in gone:
            del self.paths[each]

    @invariant()
    def agrees(self) -> None:
        for watch, path in self.paths.items():
            node = found(self.map, watch)
            assert self.map.path(node) == path
            assert self.map.find("docs", path) is node
        assert self.map.count("docs") == len(self.paths)


TestMapAgainstPaths = MapAgainstPaths.TestCase
TestMapAgainstPaths.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(names=st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, max_size=8))
def test_every_name_can_be_part_of_a_path(names: list[str]) -> None:
    """Names are not interpreted: whatever a file system hands out comes back in the path."""
    watchmap = WatchMap()
    node = watchmap.add_root("docs", 0)
    for watch, name in enumerate(names, start=1):
        node = watchmap.add(node, name, watch)

    assert watchmap.path(node) == "/".join(names)
    assert watchmap.find("docs", "/".join(names)) is node

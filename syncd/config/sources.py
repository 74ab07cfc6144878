"""The keys of a source, and the rules between sources, stores and the state directory.

Directories are compared with symbolic links resolved. A path that does not exist is no mistake: its disk may
be mounted later, and the daemon waits for it and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from msgspec import field
from msgspec.structs import replace

from syncd.config import objects
from syncd.config.document import Document, Path, quoted
from syncd.config.objects import ObjectEntry
from syncd.config.stores import StoreEntry
from syncd.config.units import Refused
from syncd.config.values import (
    Bound,
    Entry,
    FilePath,
    Flag,
    Name,
    Place,
    Text,
    duration,
    matching,
    nearest,
    one_of,
    size,
)
from syncd.core.model import Adoption, OnDelete, PatternPlaces, Source
from syncd.core.paths import prefix_problem
from syncd.core.patterns import Rules
from syncd.sources import mounts
from syncd.sources.places import Found, Places, silence

MAX_PREFIX_BYTES = 512
"""Half of the longest key, so that names fit after it."""

_NETWORK_FUSE = tuple(
    f"fuse.{name}"
    for name in ("sshfs", "rclone", "s3fs", "glusterfs", "ceph", "gcsfuse", "davfs", "smbnetfs", "juicefs")
)
_LOCAL_REMOTE = frozenset({"virtiofs", "vboxsf", "vmhgfs", "prl_fs"})
"""No events, but programs of one machine can share memory on them."""


def _at_most_16(names: list[str]) -> list[str]:
    if len(names) > 16:
        raise Refused("a list of at most 16 names")
    return names


Marker = Annotated[
    Text, matching(r"(?!\.{1,2}$)[^/]{1,255}", "the name of a file, such as `CACHEDIR.TAG`, without `/`")
]


class SourceEntry(Entry, frozen=True):
    """A watched directory."""

    required = ("name", "path", "store")
    name: Annotated[Name, "a name for logs and `status`, unique among the sources"] = ""
    path: Annotated[FilePath, "the directory to watch"] = ""
    store: Annotated[Text, "the name of a store"] = ""
    prefix: str = ""
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    ignore_case: Flag = False
    exclude_temporary: Flag = False
    exclude_if_present: Annotated[list[Marker], _at_most_16] = field(default_factory=list)
    max_size: Annotated[int, size(1, 1 << 60, or_zero=True)] = 0
    min_age: Annotated[float, duration(0, 3650 * 86_400)] = 0.0
    one_file_system: Flag = False
    attributes: Annotated[Text, one_of("none", "posix")] = "none"
    attribute_changes: Annotated[Text, one_of("wait", "copy")] = "wait"
    symlinks: Annotated[Text, one_of("skip", "record")] = "skip"
    empty_directories: Annotated[Text, one_of("skip", "record", "all")] = "skip"
    objects: Annotated[list[Any], "a list of mappings, each with `match` and properties"] = field(
        default_factory=list
    )
    settle: Annotated[float, duration(0, 86_400)] = 2.0
    mode: Annotated[Text, one_of("whole", "append")] = "whole"
    append: list[str] = field(default_factory=list)
    append_interval: Annotated[float, duration(1, 86_400)] = 60.0
    boundary: Annotated[Text, one_of("line", "byte")] = "line"
    rescan_interval: Annotated[float, duration(1, 30 * 86_400)] = 3600.0
    on_delete: Annotated[Text, one_of("keep", "delete")] = "keep"
    max_delete: Bound = (1000, 0.25)
    adopt: Annotated[Text, one_of("record", "stamp")] = "record"
    adopt_by_crc32: Flag = False

    _rules: Sequence[ObjectEntry] = ()
    _found: Found | None = None
    _root: str = ""

    def looked_up(self, place: Place) -> Self:
        if not self.path:
            return self
        return replace(self, _found=place.places.look(self.path), _root=place.places.real(self.path))

    @property
    def rules(self) -> Sequence[ObjectEntry]:
        """Return the readable entries of `objects`."""
        return self._rules

    def with_rules(self, rules: Sequence[ObjectEntry]) -> Self:
        """Return a copy with the reader's entries of `objects`."""
        return replace(self, _rules=rules)

    @property
    def root(self) -> str:
        """The directory to watch, symbolic links resolved; empty: it is not known."""
        return self._root

    @property
    def is_file(self) -> bool:
        """Return whether something other than a directory is known to be there."""
        return self._found is not None and self._found.kind == "other"

    def source(self, places: PatternPlaces) -> Source:
        """Return the settings of a source without problems."""
        return Source(
            name=self.name,
            root=self.root,
            store=self.store,
            prefix=self.prefix,
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            ignore_case=self.ignore_case,
            exclude_temporary=self.exclude_temporary,
            exclude_if_present=tuple(self.exclude_if_present),
            max_size=self.max_size,
            min_age_seconds=self.min_age,
            one_file_system=self.one_file_system,
            keeps_attributes=self.attributes == "posix",
            copies_attributes=self.attribute_changes == "copy",
            append=(tuple(self.append) or ("*",)) if self.mode == "append" else (),
            append_to_line=self.boundary == "line",
            append_seconds=self.append_interval,
            records_links=self.symlinks == "record",
            records_folders=self.empty_directories != "skip",
            records_full_folders=self.empty_directories == "all",
            objects=tuple(rule.rule() for rule in self._rules),
            settle_seconds=self.settle,
            rescan_seconds=self.rescan_interval,
            on_delete=OnDelete(self.on_delete),
            max_delete_files=self.max_delete[0],
            max_delete_fraction=self.max_delete[1],
            adopt=Adoption(self.adopt),
            adopt_by_crc32=self.adopt_by_crc32,
            given="" if self.root == self.path else self.path,
            places=places,
        )


Sources = Mapping[int, SourceEntry]
"""The readable sources, by position in the list."""
Stores = Mapping[str, StoreEntry | None]
"""All stores of the file; None: it is unreadable."""
Names = tuple[str, ...]
"""A directory's path without links, and its place in its file system; see `Places.names`."""
Directories = Mapping[str, tuple[str, Names]]
"""The directories of stores, as written, and their names."""


def places(index: int, entry: SourceEntry, document: Document) -> PatternPlaces:
    """Return ``file:line`` of each rule that excludes files, by key and text; a limit has no text."""
    found = PatternPlaces(
        {
            (key, pattern): document.where(("sources", index, key, number))
            for key in ("include", "exclude", "exclude_if_present")
            for number, pattern in enumerate(getattr(entry, key))
        }
    )
    for key in ("exclude_temporary", "max_size", "one_file_system"):
        if ("sources", index, key) in document.marks:
            found[key, ""] = document.where(("sources", index, key))
    return found


def check(sources: Sources, stores: Stores, state_dir: str, document: Document, places: Places) -> None:
    """Add every mistake to the document's problems. `state_dir` is absolute; empty: it is not known."""
    names: dict[str, int] = {}
    for index, entry in sources.items():
        path: Path = ("sources", index)
        first = names.setdefault(entry.name, index)
        if entry.name and first != index:
            expected = f"a name of its own: {_label(first, document)} has this one"
            document.report((*path, "name"), expected=expected)
        _check_store(entry, path, stores, document)
        _check_prefix(entry, path, document)
        _check_patterns(entry, path, document)
        objects.check(entry.rules, (*path, "objects"), stores.get(entry.store), document)
    roots = {
        index: places.names(entry.root)
        for index, entry in sources.items()
        if _is_comparable(entry, index, document)
    }
    directories = {
        name: (entry.directory, places.names(places.real(entry.directory)))
        for name, entry in stores.items()
        if entry and entry.directory
    }
    _check_overlaps(roots, document)
    _check_stores(roots, directories, document)
    _check_destinations(sources, stores, directories, document)
    if state_dir:
        _check_state_dir(state_dir, roots, directories, document, places)


def _label(index: int, document: Document) -> str:
    """Return how messages name a source: by line, and by name unless that is from the environment."""
    mark = document.marks.get(("sources", index, "name"))
    name = f" {quoted(mark.written)}" if mark and mark.kind == "text" and not mark.expanded else ""
    return f"source{name} (line {document.marks[('sources', index)].line})"


def _led(path: Path, written: str, real: str, document: Document) -> str:
    """Return the path as written, and where its links lead (not shown if it holds a variable)."""
    found = document.found(path)
    mark = document.marks.get(path)
    if written == real or mark is None or mark.expanded:
        return found
    return f"{found}, which leads to {quoted(real, 4096)}"


# ---- one source -----------------------------------------------------------------------------------------


def _is_comparable(entry: SourceEntry, index: int, document: Document) -> bool:
    """Return whether the root can be compared with others; report one that cannot be watched."""
    path: Path = ("sources", index, "path")
    found = _led(path, entry.path, entry.root, document)
    if entry.root == "/":
        expected = "a directory below `/`, which itself holds /proc, /sys and the state of syncd"
        document.report(path, found=found, expected=expected)
        return False
    if mounts.is_made_up(kind := _type_at(entry.root)):
        found += f", whose files the kernel makes up (file system {kind})"
        document.report(path, found=found, expected="a directory with files of your own")
        return False
    if entry.is_file:
        document.report(path, found=f"{found}, which is a file", expected="a directory")
        return False
    return bool(entry.root)


def _check_store(entry: SourceEntry, path: Path, stores: Stores, document: Document) -> None:
    if not entry.store or entry.store in stores:
        return
    if near := nearest(entry.store, stores):
        expected = f"{quoted(near)}, the nearest store in this file"
    elif stores:
        expected = f"a store of this file: {', '.join(quoted(name) for name in stores)}"
    else:
        expected = "a store that is in `stores`"
    document.report((*path, "store"), expected=expected)


def _check_prefix(entry: SourceEntry, path: Path, document: Document) -> None:
    if not entry.prefix:
        return
    if problem := prefix_problem(entry.prefix):
        expected = f"a folder in the store, such as `camera/`; this {problem}"
    elif not entry.prefix.endswith("/"):
        expected = "a `/` at its end, since a prefix is a folder in the store"
    elif len(entry.prefix.encode()) > MAX_PREFIX_BYTES:
        expected = f"at most {MAX_PREFIX_BYTES} bytes, so that names fit into the 1024 bytes of a key"
    else:
        return
    document.report((*path, "prefix"), expected=expected)


def _check_patterns(entry: SourceEntry, path: Path, document: Document) -> None:
    """Check each pattern alone, so that each mistake has its line; then the list."""
    if entry.append and entry.mode != "append":
        document.report((*path, "append"), expected="`mode: append` beside it: these patterns narrow it")
    for key, patterns in (("include", entry.include), ("append", entry.append), ("exclude", entry.exclude)):
        before = len(document.problems)
        for index, pattern in enumerate(patterns):
            lone = pattern.removeprefix("!")  # a lone negation has no effect
            if fault := _rules_fault([], [lone]):
                expected = f"a gitignore pattern; this one {fault.partition(f'{lone!r} ')[2] or fault}"
                document.report((*path, key, index), expected=expected)
            elif doubt := _doubt_about(lone, entry.path):
                document.warn((*path, key, index), f"the pattern {doubt}")
        if patterns and len(document.problems) == before:
            arguments = ([], patterns) if key == "exclude" else (patterns, [])
            if _rules_fault(*arguments):
                expected = "a pattern without `!`, which only takes away from what other patterns match"
                document.report((*path, key), expected=expected)


def _doubt_about(pattern: str, root: str) -> str:
    """Return why a pattern is probably not meant as gitignore reads it; empty: it may be. Each case is a
    habit from another tool.
    """
    inside = root.rstrip("/") + "/"
    if root and pattern.startswith(inside):
        below = pattern.removeprefix(inside)
        return f"matches nothing, because paths begin below the source's directory: write `/{below}`"
    return next((words for habit, words in _HABITS.items() if re.search(habit, pattern)), "")


_BELOW = "paths begin below the source's directory"
_HABITS = {
    r"^~\w*/": f"matches only names that begin with `~`: {_BELOW}",
    r"^\$\w+/": f"matches only names that begin with `$`: {_BELOW}",
    r"(?<!\\)\{[^/{}]*,[^/{}]*\}": "matches only names with braces in them: write one for each alternative",
    r"\*[^/]*[,;|] ?\*": "is one pattern, whatever is between: write one for each",
    r"^(?:re|regex|regexp|glob|path):": "matches only names that begin so: leave that out",
    r"^[+-] ": "matches only names that begin so: `include` and `exclude` say that",
    r"\\\.|^\^": "is no regular expression: write `*.jpg` for all that ends so",
    r"^\s": "matches only names that begin with a blank",
}  # fmt: skip
"""Patterns of other tools, and what they mean in gitignore."""


def _rules_fault(include: list[str], exclude: list[str]) -> str:
    try:
        Rules(include, exclude)
    except ValueError as error:
        return str(error)
    return ""


# ---- between them ---------------------------------------------------------------------------------------


def _and_above(path: str) -> Iterator[str]:
    """Yield the path and every directory above it, upwards."""
    while path not in ("", "/"):
        yield path
        path = path.rpartition("/")[0]


def _inner_pairs(directories: Mapping[int, Names]) -> Iterator[tuple[int, int]]:
    """Yield (inner, outer) for any two that are the same, or one below the other."""
    first_at: dict[str, int] = {}
    for index, names in directories.items():
        for name in names:
            first_at.setdefault(name, index)
    for index, names in directories.items():
        found = [first_at.get(above, index) for name in names for above in _and_above(name)]
        yield from ((index, outer) for outer in dict.fromkeys(found) if outer != index)


def _is_within(inner: Names, outer: Names) -> bool:
    return any(above in outer for name in inner for above in _and_above(name))


def _by_mount(inner: Names, outer: Names) -> str:
    """Say how one is inside the other if their paths do not show it."""
    return "" if outer[0] in _and_above(inner[0]) else " by a bind mount"


def _check_overlaps(roots: Mapping[int, Names], document: Document) -> None:
    """Check that no file belongs to two sources: each would upload, record and perhaps delete it."""
    for inner, outer in _inner_pairs(roots):
        later, earlier = max(inner, outer), min(inner, outer)
        relation = "is inside" if later == inner else "contains"
        if set(roots[inner]) & set(roots[outer]):
            relation = "is also"
        path: Path = ("sources", later, "path")
        how = f"{_label(earlier, document)}{_by_mount(roots[inner], roots[outer])}"
        document.report(
            path,
            found=f"{document.found(path)}, which {relation} {how}",
            expected="sources that do not overlap, since both would upload the same files",
        )


def _check_stores(roots: Mapping[int, Names], directories: Directories, document: Document) -> None:
    """Check that no store is in a source, and no source in a store."""
    firsts = [
        index for index in roots if not any(set(roots[index]) & set(roots[o]) for o in roots if o < index)
    ]
    for name, (directory, names) in directories.items():
        path: Path = ("stores", name, "path")
        for index in firsts:
            root = roots[index]
            if _is_within(names, root):
                relation = "is also" if set(names) & set(root) else "is inside"
                found = _led(path, directory, names[0], document)
                found += f", which {relation} {_label(index, document)}{_by_mount(names, root)}"
                expected = "a directory outside all sources, since objects in one would be uploaded again"
                document.report(path, found=found, expected=expected)
            elif _is_within(root, names):
                at: Path = ("sources", index, "path")
                where = f"store {quoted(name)} (line {document.marks[('stores', name)].line})"
                found = f"{document.found(at)}, which is inside {where}{_by_mount(root, names)}"
                expected = "a directory outside all stores, since objects would be uploaded again"
                document.report(at, found=found, expected=expected)


def _check_destinations(
    sources: Sources, stores: Stores, directories: Directories, document: Document
) -> None:
    """Check that no two files can have one key: of two prefixes in one place, neither contains the other."""
    destinations = {}
    for index, entry in sources.items():
        path: Path = ("sources", index, "prefix")
        store = stores.get(entry.store)
        location = store.location() if store else ""
        if location and not document.is_spoiled(path) and document.kind(path) in ("text", "nothing"):
            names = directories[entry.store][1] if entry.store in directories else (location,)
            destinations[index] = tuple(f"{name}/{entry.prefix}".rstrip("/") for name in names)
    for inner, outer in _inner_pairs(destinations):
        path = ("sources", max(inner, outer), "prefix")
        prefix = f"the prefix {document.found(path)}" if path in document.marks else "no prefix"
        how = f"{_label(min(inner, outer), document)}{_by_mount(destinations[inner], destinations[outer])}"
        document.report(
            path,
            found=f"{prefix} in the same place as {how}",
            expected="a prefix of its own, such as `camera/`, and none inside the other: keys could collide",
        )


def _check_state_dir(
    state_dir: str,
    roots: Mapping[int, Names],
    directories: Directories,
    document: Document,
    places: Places,
) -> None:
    path: Path = ("state_dir",)
    real, found = places.real(state_dir), places.look(state_dir)
    given = f"{quoted(state_dir, 4096)}, the default"
    if path in document.marks:
        given = _led(path, state_dir, real, document)
    around = [(_label(index, document), root) for index, root in roots.items()]
    around += [(f"store {quoted(name)}", names) for name, (_, names) in directories.items()]
    own = places.names(real)
    for label, names in [each for each in around if _is_within(own, each[1])][:1]:
        expected = "a directory outside all sources and stores, since every upload changes it"
        document.report(path, found=f"{given}, inside {label}{_by_mount(own, names)}", expected=expected)
    if found is None and silence(state_dir):
        document.report(
            path, found=f"{given}, which does not answer", expected="a directory on a disk of this machine"
        )
    elif found is not None and found.kind == "other":
        document.report(path, found=f"{given}, which is a file", expected="a directory")
    elif kind := network_type(real):
        document.report(
            path,
            found=f"{given}, on a network file system ({kind})",
            expected="a directory on a local disk, because the database needs shared memory",
        )


def network_type(path: str) -> str | None:
    """Return the type of the network file system of `path` (absolute, real); None: it is local."""
    kind = _type_at(path)
    if not mounts.is_remote(kind) or kind in _LOCAL_REMOTE:
        return None
    return None if kind.startswith("fuse.") and kind not in _NETWORK_FUSE else kind


def _type_at(path: str) -> str:
    """Return the type of the file system of `path` (absolute, real); empty: unknown."""
    try:
        table = mounts.MountTable()
    except OSError:  # there is no /proc
        return ""
    try:
        return table.type_at(path)
    finally:
        table.close()

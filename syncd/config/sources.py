"""What has to hold between sources, stores and the state directory, and inside one source.

Directories are compared as the disk has them, symbolic links resolved. A path that does not exist is no
mistake: a disk may be mounted later, and the daemon waits and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from syncd.config.document import Document, Path, quoted
from syncd.config.reader import BosEntry, DirEntry, Draft, S3Entry, SourceEntry
from syncd.config.stores import address
from syncd.config.values import nearest
from syncd.core.model import OnDelete, Source
from syncd.core.paths import prefix_problem
from syncd.core.patterns import Rules
from syncd.sources import mounts

MAX_PREFIX_BYTES = 512
"""Half of what a key may have, so that names fit after it."""

_NETWORK_FUSE = tuple(
    f"fuse.{name}"
    for name in ("sshfs", "rclone", "s3fs", "glusterfs", "ceph", "gcsfuse", "davfs", "smbnetfs", "juicefs")
)
_LOCAL_REMOTE = frozenset({"virtiofs", "vboxsf", "vmhgfs", "prl_fs"})
"""Without events, but memory can be shared there as far as one machine goes."""


def check(draft: Draft, document: Document, state_dir: str) -> None:
    """Add every mistake to the document's problems. `state_dir` is absolute; empty when it is not known."""
    roots = _roots(draft, document)
    names: dict[str, int] = {}
    for index, entry in draft.sources.items():
        path: Path = ("sources", index)
        first = names.setdefault(entry.name, index)
        if entry.name and first != index:
            expected = f"a name of its own: {_label(first, document)} has this one"
            document.report((*path, "name"), expected=expected)
        if entry.store and entry.store not in draft.store_names:
            _report_store(entry.store, (*path, "store"), draft, document)
        _check_prefix(entry, path, draft, document)
        _check_patterns(entry, path, document)
    _check_overlaps(roots, document)
    _check_stores(roots, draft, document)
    _check_destinations(draft, document)
    if state_dir:
        _check_state_dir(state_dir, roots, draft, document)


def source(entry: SourceEntry) -> Source:
    """The settings of a source that has no problems."""
    return Source(
        name=entry.name,
        root=os.path.realpath(entry.path),
        store=entry.store,
        prefix=entry.prefix,
        include=tuple(entry.include),
        exclude=tuple(entry.exclude),
        settle_seconds=entry.settle,
        rescan_seconds=entry.rescan_interval,
        on_delete=OnDelete(entry.on_delete),
        max_delete_files=entry.max_delete[0],
        max_delete_fraction=entry.max_delete[1],
        given="" if os.path.realpath(entry.path) == entry.path else entry.path,
    )


def _label(index: int, document: Document) -> str:
    """A source as its author knows it: where it stands, and its name unless that came from elsewhere."""
    mark = document.marks.get(("sources", index, "name"))
    name = f" {quoted(mark.written)}" if mark and mark.kind == "text" and not mark.expanded else ""
    return f"source{name} (line {document.marks[('sources', index)].line})"


def _led(path: Path, written: str, real: str, document: Document) -> str:
    """The path as written, and where it leads if a symbolic link is in it (not when it holds a variable)."""
    found = document.found(path)
    mark = document.marks.get(path)
    if written == real or mark is None or mark.expanded:
        return found
    return f"{found}, which leads to {quoted(real, 4096)}"


# ---- one source -----------------------------------------------------------------------------------------


def _roots(draft: Draft, document: Document) -> dict[int, str]:
    """Real paths of the sources that may be compared with others; reports those that cannot be watched."""
    roots = {}
    for index, entry in draft.sources.items():
        path: Path = ("sources", index, "path")
        if not entry.path:
            continue
        real = os.path.realpath(entry.path)
        found = _led(path, entry.path, real, document)
        if real == "/":
            expected = "a directory below `/`: all of it would include /proc, /sys and the state of syncd"
            document.report(path, found=found, expected=expected)
        elif os.path.exists(real) and not os.path.isdir(real):
            document.report(path, found=f"{found}, which is a file", expected="a directory")
        else:
            roots[index] = real
    return roots


def _report_store(wrong: str, path: Path, draft: Draft, document: Document) -> None:
    known = [quoted(name) for name in draft.store_names]
    near = nearest(wrong, draft.store_names)
    if near:
        expected = f"{quoted(near)}, the nearest store in this file"
    else:
        expected = f"a store of this file: {', '.join(known)}" if known else "a store that is in `stores`"
    document.report(path, expected=expected)


def _check_prefix(entry: SourceEntry, path: Path, draft: Draft, document: Document) -> None:
    prefix, path = entry.prefix, (*path, "prefix")
    if not prefix:
        return
    problem = prefix_problem(prefix)
    first = prefix.partition("/")[0]
    if problem:
        expected = f"folders in the store, such as `camera/`; this {problem}"
    elif not prefix.endswith("/"):
        expected = "a `/` at its end: a prefix is a folder in the store"
    elif len(prefix.encode()) > MAX_PREFIX_BYTES:
        expected = f"at most {MAX_PREFIX_BYTES} bytes: a key has 1024, and the names have to fit after it"
    elif isinstance(draft.stores.get(entry.store), BosEntry) and first.lower() == "v1":
        expected = "another name than `v1`: BOS takes that for the version of its interface"
    else:
        return
    document.report(path, expected=expected)


def _check_patterns(entry: SourceEntry, path: Path, document: Document) -> None:
    """Each pattern for itself, so that each has its line; then the list."""
    for key, patterns in (("include", entry.include), ("exclude", entry.exclude)):
        before = len(document.problems)
        for index, pattern in enumerate(patterns):
            lone = pattern.removeprefix("!")  # alone, a negation takes away from nothing
            if fault := _rules_fault([], [lone]):
                expected = f"a gitignore pattern; this one {fault.partition(f'{lone!r} ')[2] or fault}"
                document.report((*path, key, index), expected=expected)
        if patterns and len(document.problems) == before:
            arguments = (patterns, []) if key == "include" else ([], patterns)
            if _rules_fault(*arguments):
                expected = "at least one pattern that adds: `!` only takes away from what others match"
                document.report((*path, key), expected=expected)


def _rules_fault(include: list[str], exclude: list[str]) -> str:
    try:
        Rules(include, exclude)
    except ValueError as error:
        return str(error)
    return ""


# ---- between them ---------------------------------------------------------------------------------------


def _and_above(path: str) -> Iterator[str]:
    """The path and every directory above it, from below."""
    while path not in ("", "/"):
        yield path
        path = path.rpartition("/")[0]


def _check_overlaps(roots: dict[int, str], document: Document) -> None:
    """No file belongs to two sources: each would be carried, recorded and perhaps deleted twice."""
    first_at: dict[str, int] = {}
    for index, root in roots.items():
        first_at.setdefault(root, index)
    for index, root in roots.items():
        for above in _and_above(root):
            other = first_at.get(above, index)
            if other == index:
                continue
            later, earlier = max(index, other), min(index, other)
            relation = "is also" if above == root else ("is inside" if later == index else "contains")
            path: Path = ("sources", later, "path")
            document.report(
                path,
                found=f"{document.found(path)}, which {relation} {_label(earlier, document)}",
                expected="sources that do not overlap: a file in both would be carried twice",
            )


def _check_stores(roots: dict[int, str], draft: Draft, document: Document) -> None:
    """What a store writes must not be in a source, nor a source in what a store writes."""
    at = {root: index for index, root in reversed(roots.items())}  # of two in one place the first counts
    for name, entry in draft.stores.items():
        if not isinstance(entry, DirEntry) or not entry.path:
            continue
        real = os.path.realpath(entry.path)
        for above in _and_above(real):
            if above in at:
                path: Path = ("stores", name, "path")
                relation = "is also" if above == real else "is inside"
                found = _led(path, entry.path, real, document)
                found += f", which {relation} {_label(at[above], document)}"
                expected = "a directory outside all sources: what is stored there would be carried again"
                document.report(path, found=found, expected=expected)
        for root, index in at.items():
            if root != real and real in _and_above(root):
                path = ("sources", index, "path")
                where = f"store {quoted(name)} (line {document.marks[('stores', name)].line})"
                found = f"{document.found(path)}, which is inside {where}"
                expected = "a directory outside all stores: what is stored would be carried again"
                document.report(path, found=found, expected=expected)


def _check_destinations(draft: Draft, document: Document) -> None:
    """No two files have the same key: neither prefix of two in one place leads into the other."""
    first_at: dict[str, int] = {}
    destinations = {}
    for index, entry in draft.sources.items():
        path: Path = ("sources", index, "prefix")
        base = _base(draft, entry.store)
        if base and not document.is_spoiled(path) and document.kind(path) in ("text", "nothing"):
            destinations[index] = f"{base}/{entry.prefix}".rstrip("/")
            first_at.setdefault(destinations[index], index)
    for index, destination in destinations.items():
        for above in _and_above(destination):
            other = first_at.get(above, index)
            if other != index:
                _report_collision(max(index, other), min(index, other), document)


def _report_collision(later: int, earlier: int, document: Document) -> None:
    path: Path = ("sources", later, "prefix")
    given = path in document.marks
    prefix = f"the prefix {document.found(path)}" if given else "no prefix"
    document.report(
        path,
        found=f"{prefix} in the same place as {_label(earlier, document)}",
        expected="a prefix of its own, none inside the other, such as `camera/`: names could collide",
    )


def _base(draft: Draft, store: str) -> str:
    """One text for one place, whatever the stores are called that lead there; empty when it is not known."""
    entry = draft.stores.get(store)
    if isinstance(entry, DirEntry):
        return os.path.realpath(entry.path) if entry.path else ""
    if not isinstance(entry, S3Entry | BosEntry) or not entry.bucket:
        return ""
    host = address(entry).partition("://")[2].removeprefix(f"{entry.bucket}.")
    if host.endswith(".bcebos.com"):
        host = host.removeprefix("s3.")  # both of its interfaces show the same buckets
    return f"bucket:/{host}/{entry.bucket}"


def _check_state_dir(state_dir: str, roots: dict[int, str], draft: Draft, document: Document) -> None:
    path: Path = ("state_dir",)
    real = os.path.realpath(state_dir)
    given = (
        _led(path, state_dir, real, document)
        if path in document.marks
        else f"{quoted(state_dir, 4096)}, the default"
    )
    at = {root: _label(index, document) for index, root in reversed(roots.items())}
    for name, entry in draft.stores.items():
        if isinstance(entry, DirEntry) and entry.path:
            at.setdefault(os.path.realpath(entry.path), f"store {quoted(name)}")
    around = next((at[above] for above in _and_above(real) if above in at), None)
    if around:
        relation = f"{given}, inside {around}"
        expected = "a directory outside all sources and stores: it changes with everything that is carried"
        document.report(path, found=relation, expected=expected)
    if os.path.exists(real) and not os.path.isdir(real):
        document.report(path, found=f"{given}, which is a file", expected="a directory")
    elif kind := network_type(real):
        document.report(
            path,
            found=f"{given}, on a network file system ({kind})",
            expected="a directory on a local disk: the database shares memory between its users",
        )


def network_type(path: str) -> str | None:
    """The type of the network file system that holds `path` (absolute, real), or None when it is local."""
    try:
        table = mounts.MountTable()
    except OSError:  # without /proc nobody can tell
        return None
    try:
        kind = table.remote_type(path)
    finally:
        table.close()
    if kind is None or kind in _LOCAL_REMOTE or (kind.startswith("fuse.") and kind not in _NETWORK_FUSE):
        return None
    return kind

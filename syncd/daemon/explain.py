"""What is known about one file: its word, the rule that takes or leaves it, its record, the next step.

It needs only the state; a running daemon adds what it knows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from syncd.core import paths, plan
from syncd.core.errors import FileUnreadable, FileVanished
from syncd.core.model import FileRef, FileStat, FolderStat, Irregular, LinkStat, OnDelete, Recorded, Source
from syncd.core.paths import FOLDER
from syncd.core.patterns import Rules, Verdict
from syncd.core.words import Facts, Queued, iso, word_of
from syncd.pipeline.source_runner import deletions_held
from syncd.sources import directories, entries, selection
from syncd.sources.places import Places
from syncd.state.state import State


class Found(Struct, frozen=True):
    """A path, and the source that contains it."""

    source: Source
    path: str
    """Relative to the source's root; empty: the root."""

    @property
    def ref(self) -> FileRef:
        """The key of state and queue."""
        return FileRef(self.source.name, self.path)


class LiveFile(Struct, frozen=True):
    """What only the running daemon knows about a file."""

    store_id: str
    queued: Queued | None = None
    arrived: tuple[int, int] | None = None
    bytes_per_second: float | None = None
    store_waits: str = ""
    source_waits: str = ""
    unwatched: str = ""
    deletes_wait: str = ""


def find(sources: Sequence[Source], path: str) -> Found | None:
    """Return the source that contains the absolute `path`; None: none does.

    It tries the path as written, so that a link in a source is not followed, then without links above it.
    """
    written = os.path.normpath(path)
    directory, name = os.path.split(written)
    real = os.path.join(Places(ask=False).real(directory), name)
    for place in (written, real):
        for source in sources:
            for root in filter(None, (source.root, source.given)):
                below = f"{place}/".removeprefix(root.rstrip("/") + "/")
                if below != f"{place}/":
                    return Found(source, below.rstrip("/"))
    return None


def as_folder(found: Found, state: State) -> Found:
    """Return the folder itself if it is empty and carried, or was and is gone. Raises StateError."""
    folder = replace(found, path=f"{found.path.rstrip(FOLDER)}{FOLDER}")
    if not found.path or not Rules.of(found.source).wants_file(folder.path):
        return found
    gone = state.recorded(folder.ref) is not None and _look(found, None).seen is None
    return folder if gone or isinstance(_look(folder, None).seen, FolderStat) else found


def report(found: Found, state: State, live: LiveFile | None, now_ns: int) -> dict[str, Any]:
    """Return everything about one path, as JSON. Raises StateError."""
    found = as_folder(found, state)
    source, ref = found.source, found.ref
    recorded, failure, checkpoint = state.recorded(ref), state.failures.find(ref), state.checkpoints.find(ref)
    unlike = state.audits.what(ref) if recorded is not None else ""
    looked = _look(found, recorded)
    seen, left_out = looked.seen, looked.left_out
    key = paths.key_for(source.prefix, found.path, is_link=isinstance(seen, LinkStat))
    is_folder = found.path.endswith(FOLDER) or (isinstance(seen, Irregular) and seen.kind == "directory")
    verdict = Rules.of(source).explain(found.path.rstrip(FOLDER), is_directory=is_folder)
    if left_out is not None and verdict.wanted:
        verdict = left_out
    arrived = None
    if checkpoint is not None:
        arrived = sum(part.size for part in checkpoint.parts.values()), checkpoint.fingerprint.size
    facts = Facts(
        now_ns=now_ns,
        verdict=verdict if found.path or left_out else Verdict(wanted=True),
        source_waits=(live.source_waits if live else "") or looked.source_waits,
        unseen=looked.unseen,
        seen=seen,
        near=looked.near,
        recorded=recorded,
        difference=_difference(seen, recorded, key, live.store_id if live else None),
        failure=failure,
        unlike=unlike,
        arrived=(live.arrived if live else None) or arrived,
        bytes_per_second=live.bytes_per_second if live else None,
        settle_seconds=source.settle_seconds,
        min_age_seconds=source.min_age_seconds,
        on_delete=source.on_delete,
        running=live is not None,
        queued=live.queued if live else None,
        store_waits=live.store_waits if live else "",
        unwatched=live.unwatched if live else "",
        deletes_wait=live.deletes_wait if live else _held(source, recorded, state),
    )
    word, reason = word_of(facts)
    return {
        "source": source.name,
        "path": paths.printable(found.path),
        "state": word,
        "reason": reason,
        "key": key,
        "store": source.store,
        "rule": _rule(source, verdict),
        "next": _next(word, facts),
        **_evidence(facts),
    }


def _held(source: Source, recorded: Recorded | None, state: State) -> str:
    """Return why deletions of the source wait, as far as that is known without a daemon."""
    if recorded is None or source.on_delete is OnDelete.KEEP:
        return ""
    return state.last_scan(source.name).unseen or deletions_held(source, recorded.store_id, state)


def _evidence(facts: Facts) -> dict[str, Any]:
    """Return what the disk and the state hold."""
    seen, recorded, arrived, failure = facts.seen, facts.recorded, facts.arrived, facts.failure
    told: dict[str, Any] = dict.fromkeys(("disk", "recorded", "unfinished", "failure"))
    if seen is None:
        told["there"] = "not known" if facts.source_waits or facts.unseen else "nothing"
    elif isinstance(seen, Irregular):
        told["there"] = f"a {seen.kind}"
    else:
        told["there"] = "a file"
        told["disk"] = {"size": seen.size, "modified": iso(seen.mtime_ns), "changed": iso(seen.ctime_ns)}
    if recorded is not None:
        told["recorded"] = {
            "key": recorded.key,
            "etag": recorded.etag,
            "size": recorded.fingerprint.size,
            "xxh128": recorded.fingerprint.hex,
            "since": iso(recorded.recorded_ns),
        }
    if arrived is not None:
        told["unfinished"] = {"bytes_done": arrived[0], "bytes_total": arrived[1]}
    if failure is not None:
        told["failure"] = {"error": failure.error, "attempts": failure.attempts}
    return told


class _Looked(Struct, frozen=True):
    """What the disk shows at a path."""

    source_waits: str = ""
    """Why the source waits; empty: its folder can be opened."""
    unseen: str = ""
    """Why the path cannot be looked at; empty: `seen` is valid."""
    seen: FileStat | Irregular | None = None
    left_out: Verdict | None = None
    """What leaves it out besides the patterns."""
    near: str = ""
    """If nothing is there: a name that looks the same."""


def _look(found: Found, recorded: Recorded | None) -> _Looked:
    source, path = found.source, found.path
    if Places().look(os.path.dirname(f"{source.root}/{path}")) is None:
        return _Looked("its folder does not answer; is the server of its file system down?")
    try:
        root_fd = directories.open_root(source.root)
    except (FileVanished, FileUnreadable) as error:
        return _Looked(f"its directory cannot be opened: {error}")
    try:
        # If the path is a file's, this ends before the file.
        left_out = selection.of_way(root_fd, source, path.rstrip(FOLDER))
        if not path:
            return _Looked(seen=Irregular("directory"), left_out=left_out)
        seen = entries.look(root_fd, path, links=source.records_links, fills=Rules.of(source).fills)
        if seen is None and (link := directories.link_in(f"{source.root}/{path}")):
            return _Looked(seen=Irregular(f"path behind the symbolic link {paths.printable(link)}"))
        near = directories.looks_like(root_fd, path) if seen is None else ""
        left_out = left_out or selection.of_size(source, path, seen, recorded)
        return _Looked(seen=seen, left_out=left_out, near=near)
    except FileUnreadable as error:
        return _Looked(unseen=str(error))
    finally:
        os.close(root_fd)


def _difference(
    seen: FileStat | Irregular | None, recorded: Recorded | None, key: str, store_id: str | None
) -> str | None:
    """Return what tells the file from its record. Without a daemon the store's identity is not known."""
    if not isinstance(seen, FileStat):
        return None
    if recorded is not None and (recorded.key, store_id or recorded.store_id) != (key, recorded.store_id):
        return "destination changed"
    difference = plan.needs_fingerprint(seen, recorded, event=False)
    racy = recorded is not None and recorded.racy and seen == recorded.stat
    return None if racy else difference


def _rule(source: Source, verdict: Verdict) -> dict[str, Any]:
    return {
        "wanted": verdict.wanted,
        "list": verdict.key or None,
        "pattern": verdict.pattern or None,
        "matches": paths.printable(verdict.entry) or None,
        "differs_only_in_case": verdict.near or None,
        "where": source.places.get((verdict.key, verdict.pattern or verdict.near))
        or source.places.get((verdict.key, "")),
        "text": str(verdict),
    }


def _next(word: str, facts: Facts) -> str:
    """Return what would be done, and why."""
    if word in ("settling", "pending", "uploading", "unwatched"):
        what = "its content is compared with the record, and sent if it differs"
        return f"{what}: {facts.difference or 'an event marked it'}" if facts.recorded else "it is sent: new"
    if word == "failed":
        return (
            "it is tried again"
            if facts.failure and facts.failure.next_attempt_ns
            else "nothing until it changes"
        )
    if word == "gone" and facts.on_delete is OnDelete.DELETE:
        return "nothing until you allow it" if facts.deletes_wait else "its object is deleted"
    return "nothing"

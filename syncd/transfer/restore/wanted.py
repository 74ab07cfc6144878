"""What is to be restored: from the records, or only from a listing of the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from syncd.core.errors import AccessRefused, StoreRefused
from syncd.core.model import FileRef, ObjectInfo, Recorded, Source
from syncd.core.paths import LINK, is_folder, is_link_key, key_for
from syncd.core.restoring import Place, Refused, place_of
from syncd.state.state import State
from syncd.storage.base import ObjectStore


class Wanted(Struct, frozen=True):
    """One object, and where it goes."""

    info: ObjectInfo
    """What is known of the object so far."""
    place: Place | Refused
    """Its place below the folder that is restored to."""
    described: bool = False
    """`info` has digest and mtime; a listing has only size and ETag."""

    @property
    def path(self) -> str:
        """Return where it goes; without a place, its key."""
        return self.place.path if isinstance(self.place, Place) else self.info.key


def recorded(source: Source, path: str, state: State, store: ObjectStore, into: str) -> Iterator[Wanted]:
    """Yield the recorded files of `source` at and below `path` (empty: all). They go to the folder `into`.

    A deleted file gives way to what has taken its name since, unless it is `path` itself.
    """
    if path:
        row = state.recorded(FileRef(source.name, path))
        if row is not None:
            yield _of_row(path, row, store, into)
    for ref, row in state.all_recorded(source.name, path):
        wanted = _of_row(ref.path, row, store, into)
        if row.kept and (other := _in_its_place(ref, state)):
            why = f"it was deleted, and {other} there since: name it, to restore it into another folder"
            wanted = replace(wanted, place=Refused(why))
        elif is_link_key(row.key) and _has_below(ref, state):
            wanted = replace(wanted, place=Refused(LINK_OF_A_FOLDER))
        yield wanted


LINK_OF_A_FOLDER = (
    "the store also has files of a folder of this name, which are restored in its place: remove their "
    "objects if you want the link"
)
"""Why a link is not restored. If a folder became a link, its files may be those behind the link."""


def _has_below(ref: FileRef, state: State) -> bool:
    """Return whether files are recorded below `ref`, besides the mark of an empty folder."""
    page = state.recorded_page(ref.source, None, 2, os.fsencode(ref.path), kept=False)
    return any(path != os.fsencode(ref.path) + b"/" for path, _ in page)


def has_below(store: ObjectStore, link_key: str) -> bool:
    """Return whether the store lists objects below the link under `link_key`. Raises StoreError."""
    folder = link_key.removesuffix(LINK) + "/"
    return any(info.key != folder for info in islice(store.list_objects(folder), 2))


def _in_its_place(deleted: FileRef, state: State) -> str:
    """Return what has taken the place of the deleted file; empty: nothing."""
    if state.recorded_page(deleted.source, None, 1, os.fsencode(deleted.path), kept=False):
        return "a folder of its name is"
    above = deleted.path
    while above := above.rpartition("/")[0]:
        row = state.recorded(FileRef(deleted.source, above))
        if row is not None and not row.kept:
            return "a file with the name of its folder is"
    return ""


def _of_row(path: str, row: Recorded, store: ObjectStore, into: str) -> Wanted:
    content = row.fingerprint
    info = ObjectInfo(
        row.key, content.size, row.etag, content.digest, row.stat.mtime_ns, is_link=is_link_key(row.key)
    )
    folder = is_folder(path)
    place: Place | Refused = Place((into + path).rstrip("/"), folder, is_link=is_link_key(row.key))
    if row.store_id != store.store_id:
        place = Refused(f"its object is in another store, {row.store_id}: name that one with --store")
    return Wanted(info, place, described=True)


def listed(store: ObjectStore, prefix: str, path: str, into: str) -> Iterator[Wanted]:
    """Yield the objects of the file or folder `path` below `prefix` (empty: all), for the folder `into`.

    Raises StoreError.
    """
    wanted = key_for(prefix, path)
    if path:
        for key in (wanted, key_for(prefix, path, is_link=True)):
            try:
                info = store.head_object(key)
            except StoreRefused as refused:
                if isinstance(refused, AccessRefused):
                    raise
                yield Wanted(ObjectInfo(wanted, 0, ""), Refused(str(refused)))  # it can have no such key
                return
            if info is not None:
                yield _of_object(info, prefix, into)
        wanted += "/"
    for info in store.list_objects(wanted):
        yield _of_object(info, prefix, into)


def _of_object(info: ObjectInfo, prefix: str, into: str) -> Wanted:
    place = place_of(prefix, info.key, info.size)
    if isinstance(place, Place):
        place = place._replace(path=(into + place.path).rstrip("/"))
    return Wanted(info, place)

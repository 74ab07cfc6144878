"""What `syncd check` checks on the machine: directories, and the kernel's limits on watches."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from syncd.cli.common import LOOK_AT_SERVER, SILENT, Reporter
from syncd.core.errors import FileUnreadable, FileVanished, StateRefused
from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.core.words import counted
from syncd.sources import selection
from syncd.sources.directories import open_listing, open_root
from syncd.sources.places import Places
from syncd.sources.watch import inotify
from syncd.state.lock import replaceable_in, require_private

_ENOUGH = 1.2  # share of headroom: folders grow


def directories(sources: Sequence[Source], state_dir: str, report: Reporter) -> None:
    """Check that the roots exist and are readable, and that the state directory is writable."""
    places = Places()
    for source in sources:
        name = f"source {source.name}"
        found = places.look(source.root)
        if found is None:
            report(name, False, f"{source.root} {SILENT}, and the daemon waits for it: {LOOK_AT_SERVER}")
        elif found.kind == "directory":
            report(name, True, source.root)
        elif found.kind == "closed":
            report(name, False, f"{source.root} cannot be read by this user; change its mode or the user")
        else:
            report(name, None, f"{source.root} does not exist; the daemon waits for it")
    place = state_dir
    while not os.path.exists(place) and place != "/":
        place = os.path.dirname(place)
    writable = os.access(place, os.W_OK | os.X_OK)
    advice = "" if writable else " cannot be written by this user; change its owner"
    try:
        if place == state_dir:
            require_private(state_dir)
    except StateRefused as refused:  # root may check before the service runs as another user
        passed = None if os.geteuid() == 0 != os.stat(state_dir).st_uid else False
        report("state directory", passed, str(refused))
    else:
        report("state directory", writable, f"{state_dir}{advice}")
    if shared := replaceable_in(place):
        report("state directory", None, f"other users can replace it: run `chmod o-w {shared}`")


def patterns_and_watches(sources: Sequence[Source], report: Reporter) -> None:
    """Say what the patterns take; check that the kernel allows a watch for each directory, and a queue long
    enough for bursts.
    """
    places = Places(ask=False)  # what may hang is not watched either
    watched = [source for source in sources if places.look(source.root) is not None]
    surveys = [(source, _survey(source, places)) for source in watched]
    for source, found in surveys:
        if found.files and (source.include or source.exclude):
            passed = None if not found.wanted else True
            report(
                f"patterns of {source.name}",
                passed,
                f"they take {found.wanted} of {counted(found.files, 'file')}",
            )
    needed = sum(found.directories for _, found in surveys)
    limit = inotify.watch_limit()
    if limit is None:
        report(
            "inotify watches",
            None,
            f"the kernel's limit is unknown; {counted(needed, 'directory', 'is')} to be watched",
        )
    elif needed * _ENOUGH > limit:
        remedy = inotify.watches_remedy(needed - limit)
        report(
            "inotify watches",
            False,
            f"{counted(needed, 'directory')}, but {counted(limit, 'watch')}; raise it with: {remedy}",
        )
    else:
        report("inotify watches", True, f"{needed} of {limit} would be used")
    queue = inotify.queue_limit()
    if queue is not None and queue < 16384:
        remedy = "sysctl fs.inotify.max_queued_events=65536"
        report("inotify queue", None, f"a burst of {queue} events costs a scan; raise it with: {remedy}")


class _Survey(Struct):
    """What a source contains."""

    directories: int = 0
    """To watch."""
    files: int = 0
    wanted: int = 0


def _survey(source: Source, places: Places) -> _Survey:
    found = _Survey()
    rules = Rules.of(source)
    try:
        root_fd = open_root(source.root)
    except (FileUnreadable, FileVanished):
        return found
    pending = [""]
    while pending:
        path = pending.pop()
        descriptor = -1
        found.directories += 1
        try:
            descriptor = open_listing(root_fd, os.fsencode(path))
            if selection.of_folder(root_fd, descriptor, source, path) is not None:
                found.directories -= 1
                continue
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    below = f"{path}/{entry.name}" if path else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if rules.wants_directory(below) and not places.may_hang(f"{source.root}/{below}"):
                            pending.append(below)
                    elif entry.is_file(follow_symlinks=False):
                        found.files += 1
                        found.wanted += rules.wants_file(below)
        except OSError:
            continue
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    os.close(root_fd)
    return found

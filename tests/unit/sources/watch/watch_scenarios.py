"""Scenarios that need rights or namespaces of their own; each runs in its own process and answers in JSON.

Started by `watch_rig.apart` as ``python -m tests.unit.sources.watch.watch_scenarios SCENARIO DIRECTORY``.
Everything that a scenario does to limits and mounts is private to its process: the machine stays as it is.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import resource
import select
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from syncd.core import schedule
from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.mounts import MountTable
from syncd.sources.watch.watcher import Watcher
from tests.unit.daemon.test_daemon import Home
from tests.unit.sources.watch.watch_rig import CANNOT, DEADLINE_SECONDS, NAME, Listener, eventually, watching

NEW_MOUNTS = 0x00020000
NEW_USERS = 0x10000000
BIND = 4096
PRIVATE_AND_BELOW = (1 << 18) | 16384

Answer = dict[str, object]
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def impossible(reason: str) -> NoReturn:
    """This machine cannot show it, whatever we do: the test is skipped, with the reason."""
    print(reason)
    sys.exit(CANNOT)


def namespace(flags: int) -> None:
    """A user namespace in which we are root, with whatever else; so that ordinary users can run this too."""
    user, group = os.getuid(), os.getgid()
    try:
        _call("unshare", NEW_USERS | flags)
    except OSError as error:
        impossible(f"no user namespaces here: {error.strerror}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if flags & NEW_MOUNTS:
        _call("mount", b"none", b"/", None, PRIVATE_AND_BELOW, None)


def mount(what: str, where: Path, kind: str = "tmpfs", flags: int = 0, options: str = "") -> None:
    _call("mount", what.encode(), os.fsencode(where), kind.encode(), flags, options.encode() or None)


def unmount(where: Path) -> None:
    _call("umount2", os.fsencode(where), 0)


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Give up being root, if we are, for good; a directory of our own, since pytest's are root's own."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


class Lines(logging.Handler):
    """The log, to be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def about(self, words: str) -> int:
        return sum(words in line for line in self.lines)


def _advised(reason: str) -> int:
    match = re.search(r"sysctl .*\buser\.max_inotify_watches=(\d+)$", reason)
    return int(match[1]) if match else 0


# ---- limits -----------------------------------------------------------------------------------------------

WATCH_LIMIT = Path("/proc/sys/user/max_inotify_watches")
INSTANCE_LIMIT = Path("/proc/sys/user/max_inotify_instances")


def watch_limit(directory: Path) -> Answer:
    """301 directories, room for 100."""
    namespace(0)
    WATCH_LIMIT.write_text("100")
    root = directory / "root"
    for number in range(100):
        (root / f"{number:03}/a/b").mkdir(parents=True)
    log = Lines()
    with watching(root) as watch:
        status = watch.status()
        parents = {os.path.relpath(each, root) for each, _, _ in os.walk(root)}
        unwatched = {p for p in parents for top in status.unwatched if p == top or p.startswith(top + "/")}
        answer: Answer = {
            "watches": status.watches,
            "directories": status.directories,
            "all_covered": len(unwatched) + status.watches == len(parents),
            "remedy_is_enough": _advised(status.reason) >= 301,
        }
        watched = sorted(parents - unwatched - {"."})
        for path in watched:
            (root / path / "probe").touch()
        answer["heard_in_watched"] = watch.listener.hears(*(f"{path}/probe" for path in watched))
        answer["alive"] = watch.watcher.is_alive(DEADLINE_SECONDS)
        answer["lines_about_the_limit"] = log.about("watch limit reached")
        WATCH_LIMIT.write_text("1000")
        watch.watcher.is_alive(DEADLINE_SECONDS)
        eventually(lambda: watch.status().watches == 301)
        status = watch.status()
        answer["after_raising"] = [status.watches, list(status.unwatched), status.reason]
        (root / "099/a/b/late").touch()
        answer["heard_after_raising"] = watch.listener.hears("099/a/b/late")
    return answer


def far_beyond_the_watch_limit(directory: Path) -> Answer:
    """1,501 directories side by side, room for 100."""
    namespace(0)
    WATCH_LIMIT.write_text("100")
    root = directory / "root"
    for number in range(1_500):
        (root / str(number)).mkdir(parents=True)
    with watching(root) as watch:
        status = watch.status()
        answer: Answer = {
            "mode": status.mode,
            "unwatched": list(status.unwatched),
            "directories": status.directories,
            "remedy_is_enough": _advised(status.reason) >= 1501,
        }
        WATCH_LIMIT.write_text("5000")

        def healed() -> bool:
            watch.watcher.is_alive(DEADLINE_SECONDS)
            return watch.status().watches == 1501

        eventually(healed)
        status = watch.status()
        answer["after_raising"] = [status.mode, status.watches, list(status.unwatched), status.reason]
    return answer


def log_at_the_limit(directory: Path) -> Answer:
    """Directories side by side, and others nested in one another, some of them new; room for 100."""
    namespace(0)
    WATCH_LIMIT.write_text("100")
    root = directory / "root"
    for number in range(700):
        (root / f"wide{number}").mkdir(parents=True)
    log = Lines()
    with watching(root) as watch:
        path = root / "wide699"
        for number in range(700):
            (root / f"new{number}").mkdir()
            path = path / "d"
            path.mkdir()
        alive = watch.watcher.is_alive(DEADLINE_SECONDS)
        again = watch.watcher.is_alive(DEADLINE_SECONDS)
    return {"alive": alive and again, "lines": len(log.lines), "bytes": sum(map(len, log.lines))}


def daemon_beyond_the_watch_limit(directory: Path) -> Answer:
    """The daemon over 60 directories, room for 20 watches, polling every second instead of every minute."""
    namespace(0)
    WATCH_LIMIT.write_text("20")
    schedule.POLL_SECONDS = 1.0
    home = Home(directory)
    for number in range(60):
        (directory / f"watched/{number}").mkdir()
    try:
        made = home.start()
        scanned = eventually(lambda: made._pipeline.source_runners["docs"].first_scan_done.is_set())
        for number in range(60):
            (directory / f"watched/{number}/file").write_text(str(number))
        found = eventually(
            lambda: all((directory / f"mirror/{number}/file").exists() for number in range(60))
        )
        watch = home.ask(command="status")["sources"][0]["watch"]
    finally:
        home.close()
    return {
        "scanned": scanned,
        "found": found,
        "watches": watch["watches"],
        "has_gaps": bool(watch["unwatched"]),
        "names_the_line": bool(_advised(watch["reason"])),
    }


def instance_limit(directory: Path) -> Answer:
    """No inotify instance at first."""
    namespace(0)
    before = INSTANCE_LIMIT.read_text()
    INSTANCE_LIMIT.write_text("0")
    root = directory / "root"
    root.mkdir()
    with watching(root) as watch:
        status = watch.status()
        names_the_line = re.search(r"sysctl .*\buser\.max_inotify_instances=\d+$", status.reason) is not None
        answer: Answer = {"refused": [status.mode, list(status.unwatched), names_the_line]}
        answer["alive_although_refused"] = watch.watcher.is_alive(DEADLINE_SECONDS)
        INSTANCE_LIMIT.write_text(before)
        watch.watcher.is_alive(DEADLINE_SECONDS)
        answer["later"] = watch.status().mode
        answer["doubts"] = watch.listener.subtrees()
        (root / "file").touch()
        answer["heard"] = watch.listener.hears("file")
    return answer


def descriptor_limit(directory: Path) -> Answer:
    """Room for fewer and fewer descriptors, then for enough."""
    root = directory / "root"
    root.mkdir()
    sources = [Source(name=NAME, root=str(root), store="s")]
    listener = Listener()
    watcher = Watcher(sources, {NAME: Rules((), ())}, listener)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sorted(map(int, os.listdir("/proc/self/fd")))
    first_free = next(number for number in range(1000) if number not in used[:-1])
    modes = []
    for spare in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + spare, before[1]))
        watcher.restart()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        modes.append(watcher.status()[NAME].mode)
    answer: Answer = {"modes": modes}
    answer["leaked"] = sorted(set(map(int, os.listdir("/proc/self/fd"))) - set(used))
    answer["alive"] = watcher.is_alive(DEADLINE_SECONDS)
    answer["later"] = watcher.status()[NAME].mode
    answer["doubts"] = len(listener.subtrees())
    watcher.stop()
    return answer


# ---- rights -----------------------------------------------------------------------------------------------


def unreadable_directories(_: Path) -> Answer:
    """Directories that are closed and opened, as their owner who is not root."""
    with unprivileged() as directory:
        return _unreadable_directories(directory)


def _unreadable_directories(directory: Path) -> Answer:
    root = directory / "root"
    (root / "closed/sub").mkdir(parents=True)
    (root / "closed/sub/file").touch()
    (root / "closed").chmod(0)
    (directory / "incoming/sub").mkdir(parents=True)
    (directory / "incoming/sub/file").touch()
    log = Lines()
    with watching(root) as watch:
        answer: Answer = {"at_start": [watch.status().mode, list(watch.status().unwatched)]}
        watch.has_heard_everything()
        answer["lines_about_it"] = log.about("cannot be read")
        (root / "closed").chmod(0o755)
        answer["heard_on_opening"] = watch.listener.hears("closed/sub/file")
        watch.has_heard_everything()
        answer["gaps_after_opening"] = list(watch.status().unwatched)
        (root / "closed/sub/later").touch()
        answer["heard_after_opening"] = watch.listener.hears("closed/sub/later")

        (directory / "incoming/sub").chmod(0)
        (directory / "incoming").rename(root / "came")
        watch.listener.doubts_of("came/sub")
        (root / "came/sub").chmod(0o755)
        answer["heard_in_moved_in"] = watch.listener.hears("came/sub/file")

        (root / "closed").chmod(0)  # a watch that is in place stays in place
        watch.has_heard_everything()
        answer["closed_later"] = list(watch.status().unwatched)
        (root / "closed").chmod(0o755)
        (root / "closed/again").touch()
        answer["heard_after_closed_later"] = watch.listener.hears("closed/again")
    return answer


def unreadable_root(_: Path) -> Answer:
    """A root that is closed at first."""
    with unprivileged() as directory:
        return _unreadable_root(directory)


def _unreadable_root(directory: Path) -> Answer:
    root = directory / "root"
    root.mkdir(mode=0)
    with watching(root) as watch:
        answer: Answer = {"at_start": [watch.status().mode, watch.status().reason]}
        root.chmod(0o755)
        watch.has_heard_everything()
        answer["later"] = [watch.status().mode, watch.status().reason]
        answer["doubts"] = watch.listener.subtrees()
        (root / "file").touch()
        answer["heard"] = watch.listener.hears("file")
    return answer


def daemon_loses_its_rights(directory: Path) -> Answer:
    """The daemon on a root, and then a folder, that is closed and opened again."""
    warm = Home(directory)  # all is imported by then: without our rights it may not be readable
    warm.start()
    warm.close()
    with unprivileged() as directory:
        return _daemon_loses_its_rights(directory)


def _daemon_loses_its_rights(directory: Path) -> Answer:
    home = Home(directory)
    home.content["sources"][0] |= {"on_delete": "delete", "rescan_interval": "1s"}
    root = directory / "watched"
    (root / "folder").mkdir()
    names = [f"{place}{number}" for place in ("", "folder/") for number in range(5)]
    for name in names:
        (root / name).write_text(name)

    def kept() -> bool:
        return all((directory / "mirror" / name).exists() for name in names)

    def docs() -> dict[str, Any]:
        source: dict[str, Any] = home.ask(command="status")["sources"][0]
        return source

    answer: Answer = {}
    try:
        made = home.start()
        eventually(kept)
        keeper_of = made._pipeline.source_runners["docs"]
        root.chmod(0)
        answer["root_waits"] = eventually(lambda: "cannot be read" in (docs()["waiting_for"] or ""))
        answer["kept_without_root"] = kept()
        root.chmod(0o755)
        (root / "later").write_text("x")
        answer["root_is_back"] = eventually(
            lambda: (directory / "mirror/later").exists() and not docs()["waiting_for"]
        )
        (root / "folder").chmod(0)
        answer["folder_is_told"] = eventually(lambda: docs()["unreadable"])
        scans = keeper_of.news.scans
        eventually(lambda: keeper_of.news.scans > scans + 2)
        answer["kept_without_folder"] = kept()
        (root / "folder").chmod(0o755)
        (root / "folder/0").unlink()
        answer["folder_is_back"] = eventually(lambda: not (directory / "mirror/folder/0").exists())
    finally:
        home.close()
    return answer


# ---- mounts -----------------------------------------------------------------------------------------------


def mount_table(directory: Path) -> Answer:
    """The table alone: what wakes, and what has changed."""
    namespace(NEW_MOUNTS)
    there = directory / "there"
    there.mkdir()
    table = MountTable()
    poll = select.poll()
    poll.register(table.fileno(), select.POLLPRI)

    def changed() -> list[str]:
        assert poll.poll(int(DEADLINE_SECONDS * 1000))
        return [os.path.relpath(point, directory) for point in table.refresh()]

    answer: Answer = {"quiet_at_first": not poll.poll(0)}
    for step, action in (
        ("after_mount", lambda: mount("none", there)),
        ("after_mount_over", lambda: mount("none", there)),
        ("after_unmount", lambda: unmount(there)),
        ("after_rest", lambda: unmount(there)),
    ):
        action()
        answer[step] = changed()
    answer["quiet_at_last"] = not poll.poll(0)
    table.close()
    return answer


def mounted_root(directory: Path) -> Answer:
    """A root that is a mount: unmounted, and mounted again."""
    namespace(NEW_MOUNTS)
    root = directory / "root"
    root.mkdir()
    mount("none", root)
    (root / "a").mkdir()
    with watching(root) as watch:
        unmount(root)
        answer: Answer = {"doubt_after_unmount": watch.listener.doubts_of("")}
        watch.has_heard_everything()
        watch.listener.forget()
        mount("none", root)
        answer["doubt_after_mount"] = watch.listener.doubts_of("")
        (root / "sub").mkdir()
        (root / "sub/file").touch()
        answer["heard"] = watch.listener.hears("sub/file")
        answer["phantom"] = any(path.startswith("a") for path in watch.listener.paths())
    return answer


def mounted_below(directory: Path) -> Answer:
    """A file system that is mounted over a watched directory, and taken away."""
    namespace(NEW_MOUNTS)
    root = directory / "root"
    (root / "sub/hidden").mkdir(parents=True)
    hidden = os.open(root / "sub/hidden", os.O_RDONLY)
    with watching(root) as watch:
        mount("none", root / "sub")
        answer: Answer = {"doubt_after_mount": watch.listener.doubts_of("sub")}
        (root / "sub/new").mkdir()
        (root / "sub/new/file").touch()
        answer["heard_in_mount"] = watch.listener.hears("sub/new/file")
        eventually(lambda: watch.status().watches == 3)
        os.close(os.open("unseen", os.O_CREAT | os.O_WRONLY, dir_fd=hidden))
        watch.has_heard_everything()
        answer["hidden_is_silent"] = "sub/hidden/unseen" not in watch.listener.paths()
        os.close(hidden)
        watch.listener.forget()
        unmount(root / "sub")
        answer["doubt_after_unmount"] = watch.listener.doubts_of("sub")
        eventually(lambda: watch.status().watches == 3 and not watch.status().unwatched)
        watch.has_heard_everything()
        (root / "sub/hidden/file").touch()
        answer["heard_below"] = watch.listener.hears("sub/hidden/file")
        answer["watches"] = watch.status().watches
    return answer


def bind_mount(directory: Path) -> Answer:
    """One directory at two places of a source."""
    namespace(NEW_MOUNTS)
    root = directory / "root"
    (root / "first").mkdir(parents=True)
    (root / "second").mkdir()
    with watching(root) as watch:
        mount(str(root / "first"), root / "second", flags=BIND)
        eventually(lambda: watch.status().unwatched == ("second",))
        answer: Answer = {"unwatched": list(watch.status().unwatched)}
        (root / "second/file").touch()
        answer["heard"] = watch.listener.hears("first/file")
        unmount(root / "second")
        eventually(lambda: watch.status().watches == 3 and not watch.status().unwatched)
        answer["unwatched_after_unmount"] = list(watch.status().unwatched)
        answer["watches"] = watch.status().watches
    return answer


def edit_through_a_bind_mount(directory: Path) -> Answer:
    """The same directory, mounted a second time outside of the source."""
    namespace(NEW_MOUNTS)
    root, other = directory / "root", directory / "other"
    root.mkdir()
    other.mkdir()
    mount(str(root), other, flags=BIND)
    with watching(root) as watch:
        (other / "file").write_text("x")
        return {"heard": watch.listener.hears("file")}


def dead_network_mounts(directory: Path) -> Answer:
    """FUSE mounts without a server: a process that touches them never returns."""
    namespace(NEW_MOUNTS)
    roots = {"remote": directory / "remote", NAME: directory / "root"}
    share = roots[NAME] / "share"
    roots["remote"].mkdir()
    share.mkdir(parents=True)
    servers = []
    for where in (roots["remote"], share):
        try:
            servers.append(os.open("/dev/fuse", os.O_RDWR))
        except OSError as error:
            impossible(f"/dev/fuse cannot be opened: {error.strerror}")
        mount("sshfs", where, "fuse.sshfs", options=f"fd={servers[-1]},rootmode=40000,user_id=0,group_id=0")
    with watching({name: str(root) for name, root in roots.items()}) as watch:
        remote, below = watch.status("remote"), watch.status()
        answer: Answer = {
            "root": [remote.mode, list(remote.unwatched)],
            "below": [below.mode, list(below.unwatched)],
            "reasons_name_the_type": ["fuse.sshfs" in remote.reason, "fuse.sshfs" in below.reason],
            "alive": watch.has_heard_everything(),
        }
        (roots[NAME] / "file").touch()
        answer["heard_beside"] = watch.listener.hears("file")
    for server in servers:
        os.close(server)
    return answer


SCENARIOS: dict[str, Callable[[Path], Answer]] = {
    scenario.__name__: scenario
    for scenario in (
        descriptor_limit, watch_limit, far_beyond_the_watch_limit, instance_limit, unreadable_directories,
        unreadable_root, daemon_loses_its_rights, log_at_the_limit, daemon_beyond_the_watch_limit,
        mount_table, mounted_root, mounted_below, bind_mount, edit_through_a_bind_mount, dead_network_mounts,
    )
}  # fmt: skip

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(SCENARIOS[sys.argv[1]](Path(sys.argv[2]))))

"""What people, disks, networks and machines do: each a move with arguments, so that a script of them replays.

People write as programs do: in several steps, and no message tells syncd when they are done.
"""

from __future__ import annotations

import errno
import math
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.torture.simulation.process import READERS
from tests.torture.simulation.tree import Volume
from tests.torture.simulation.weather import FAIR, OUTAGES, STORM
from tests.torture.simulation.world import LOG, ROOT, Ambush, DiskError, World

__all__ = ["MOVES", "READERS", "Move", "draw", "draw_of_insertions", "draw_of_log", "draw_of_new", "make"]

PART = 8
NAMES = ("a", "b", "d/a", "d/b", "d/e/c", "f")
DIRECTORIES = ("d", "d/e", "g")
SIZES = (0, 1, PART - 1, PART, PART + 1, 3 * PART, 4 * PART + 5)
FATES = ("soon", "soon", "soon", "soon", "twice", "late", "lost")
CALLS = (
    "open", "stat", "fstat", "read", "list", "put_object", "create_multipart_upload", "upload_part",
    "complete_multipart_upload", "after put_object", "after upload_part", "delete_object", "copy_object",
    "head_object", "list_parts", "after complete_multipart_upload",
)  # fmt: skip
_READING = (
    "read", "read", "read", "fstat", "stat", "open", "upload_part", "create_multipart_upload", "put_object",
    "after put_object", "after complete_multipart_upload",
)  # fmt: skip
READING_ERRORS = (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Move:
    """One line of a script: what, with which arguments, and how long until the next one."""

    name: str
    arguments: tuple[Any, ...] = ()
    pause_seconds: float = 0.0


Chance = random.Random
_Draw = Callable[[Chance], tuple[Any, ...]]
MOVES: dict[str, tuple[int, _Draw, Callable[..., None]]] = {}
"""Name -> weight, how arguments are drawn, what is done."""


def _move(
    weight: int, draw: _Draw = lambda chance: ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def known(do: Callable[..., None]) -> Callable[..., None]:
        MOVES[do.__name__] = (weight, draw, do)
        return do

    return known


def draw(chance: Chance) -> Move:
    """Any move."""
    (name,) = chance.choices(list(MOVES), [weight for weight, _, _ in MOVES.values()])
    pause = chance.choice((0.0, 0.0, 0.1, 0.6, 2.5, 2.5, 7.0, 40.0, 400.0))
    return Move(name, MOVES[name][1](chance), pause)


def draw_of_log(chance: Chance) -> Move:
    """A move of those that write or rotate a log; `draw` makes none of them."""
    name = chance.choice(("write_log", "write_log", "rotate_log", "rotate_while_it_is_read"))
    return Move(name, MOVES[name][1](chance), chance.choice((0.0, 0.6, 7.0, 40.0)))


def draw_of_insertions(chance: Chance) -> Move:
    """A move that `draw` does not make, either."""
    return Move("insert", _inserting(chance), chance.choice((0.6, 7.0, 40.0)))


def draw_of_new(chance: Chance, number: int) -> Move:
    """A large file that nothing known resembles is saved, and often written again while it is sent."""
    name, size = f"new {number}", 3 * PART + 1 + number * 3
    _, _, key, call, nth, fate, restore = _rewriting(chance)
    pause = chance.choice((0.6, 7.0, 40.0))
    if chance.random() < 0.5:
        return Move("save", (name, size, key, fate), pause)
    return Move("rewrite_while_it_is_read", (name, size, key, call, nth, fate, restore), pause)


def make(world: World, move: Move) -> None:
    """Do it; what the folder does not allow (a directory in the way) is not done."""
    world.checker.moves.append(world.clock.monotonic())
    with suppress(OSError):
        MOVES[move.name][2](world, *move.arguments)
    world.checker.published()


def _at(name: str) -> str:
    return f"{ROOT}/{name}"


def _do(world: World, call: str, *arguments: Any, **options: Any) -> Any:
    """One system call of another program; what it made of the folder is something that the folder was."""
    if world.mount_point not in world.tree.mounts or world.tree.mounts[world.mount_point] is not world.volume:
        raise OSError(errno.ENODEV, "the disk is away")
    if any(world.people.is_torn(path) for path in arguments if str(path).startswith(ROOT)):
        raise OSError(errno.EBUSY, "a write holds the lock; this call does not wait for it")
    answer = getattr(world.people, call)(*arguments, **options)
    world.checker.published()
    return answer


def _parents(world: World, name: str) -> None:
    parts = name.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        with suppress(FileExistsError):
            _do(world, "mkdir", _at("/".join(parts[:depth])))


def _put(world: World, name: str, flags: int, content: bytes, offset: int = 0) -> None:
    """Write in two steps, as programs do."""
    fd = _do(world, "open", _at(name), flags, 0o644)
    try:
        half = len(content) // 2
        _do(world, "pwrite", fd, content[:half], offset)
        _do(world, "pwrite", fd, content[half:], offset + half)
    finally:
        world.people.close(fd)


def _key(chance: Chance) -> int:
    """Content is new, or, as after an undo or a copy, one of a few that were there before."""
    return chance.randrange(3) if chance.random() < 0.3 else chance.randrange(10**8)


def _content(key: int, size: int) -> bytes:
    """Another one for each `key`, from the first byte on."""
    return random.Random(key).randbytes(size)


# ---- people ----------------------------------------------------------------------------------------------


def _file(chance: Chance) -> tuple[Any, ...]:
    return chance.choice(NAMES), chance.choice(SIZES), _key(chance), chance.choice(FATES)


def _path(chance: Chance) -> tuple[Any, ...]:
    return chance.choice(NAMES), chance.choice(FATES)


def _two(chance: Chance) -> tuple[Any, ...]:
    return chance.choice(NAMES), chance.choice(NAMES), chance.choice(FATES)


@_move(14, _file)
def save(world: World, name: str, size: int, key: int, fate: str) -> None:
    _parents(world, name)
    _put(world, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _content(key, size))
    world.tell(name, fate)


@_move(8, _file)
def save_by_rename(world: World, name: str, size: int, key: int, fate: str) -> None:
    _parents(world, name)
    other = f"{name}.tmp"
    _put(world, other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _content(key, size))
    _do(world, "rename", _at(other), _at(name))
    world.tell(other, fate)
    world.tell(name, fate)


@_move(5, _file)
def append(world: World, name: str, size: int, key: int, fate: str) -> None:
    _put(world, name, os.O_WRONLY | os.O_APPEND, _content(key, size))
    world.tell(name, fate)


@_move(8, lambda chance: (*_file(chance), chance.random() < 0.7))
def overwrite_in_place(world: World, name: str, offset: int, key: int, fate: str, restore: bool) -> None:
    """Same inode, same size, and perhaps the modification time put back."""
    before = _do(world, "stat", _at(name))
    offset = min(offset, before.st_size)
    _put(world, name, os.O_WRONLY, _content(key, before.st_size - offset), offset)
    if restore:
        _do(world, "utime", _at(name), ns=(before.st_mtime_ns, before.st_mtime_ns))
    world.tell(name, fate)


@_move(6, lambda chance: (*_file(chance), chance.choice((0.5, 3.0, 20.0, 50.0))))
def write_for_long(world: World, name: str, size: int, key: int, fate: str, seconds: float) -> None:
    """One write that takes longer than a file has to be quiet."""
    fd = _do(world, "open", _at(name), os.O_WRONLY)
    world.write_for_long(fd, _content(key, max(2, size)), seconds, lambda: world.tell(name, fate))


def _writing_a_log(chance: Chance) -> tuple[Any, ...]:
    return chance.randint(2, 60), chance.randrange(10), chance.choice(FATES)


@_move(0, _writing_a_log)
def write_log(world: World, halves: int, key: int, fate: str) -> None:
    """A program has a log open, and writes lines into it, each in two halves; the last may lack one."""
    fd = _do(world, "open", _at(LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(number: int) -> None:
        if number == halves:
            world.people.close(fd)
            return
        with suppress(OSError):  # its disk may be away
            _do(world, "pwrite", fd, b"%d\n" % number if number % 2 else b"%d " % key, 0)
            world.tell(LOG, fate)
        world.checker.moves.append(world.clock.monotonic())
        world.later(0.35, lambda: write(number + 1))

    write(0)


@_move(0, lambda chance: (chance.random() < 0.5, chance.randrange(10), chance.choice(FATES)))
def rotate_log(world: World, by_rename: bool, key: int, fate: str) -> None:
    """By another name, or by a copy; programs that write go on in the same file, and one in the new log."""
    if by_rename:
        _do(world, "rename", _at(LOG), _at(f"{LOG}.1"))
    else:
        _put(world, f"{LOG}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, world.checker.files().get(LOG, b""))
        _do(world, "truncate", _at(LOG), 0)
    _put(world, LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, b"%d new\n%d log\n" % (key, key))
    world.tell(LOG, fate)
    world.tell(f"{LOG}.1", fate)


def _inserting(chance: Chance) -> tuple[Any, ...]:
    return chance.choice(("a", "f")), chance.randrange(2 * PART), chance.randrange(100), chance.choice(FATES)


@_move(0, _inserting)
def insert(world: World, name: str, offset: int, key: int, fate: str) -> None:
    """What lies behind in a large file gets another place."""
    content = world.checker.files().get(name, b"")
    if not 3 * PART < len(content) < 6 * PART:
        content = _content(key, 4 * PART + 5)
    longer = content[:offset] + b"%d" % key + content[offset:]
    _put(world, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, longer)
    world.tell(name, fate)


def _rotating(chance: Chance) -> tuple[Any, ...]:
    call, nth = chance.choice(_READING), chance.randint(1, 9)
    return *_writing_a_log(chance), call, nth if call == "read" else 1, chance.random() < 0.3


@_move(0, _rotating)
def rotate_while_it_is_read(
    world: World, halves: int, key: int, fate: str, call: str, nth: int, by_rename: bool
) -> None:
    """A log is rotated in the middle of its being carried, while it grows."""
    write_log(world, halves, key, "soon")
    again = Move("rotate_log", (by_rename, key + 1, fate))
    world.later(5.0, lambda: world.ambushes.append(Ambush(call, nth, lambda: make(world, again))))


@_move(4, _file)
def truncate(world: World, name: str, size: int, key: int, fate: str) -> None:
    _do(world, "truncate", _at(name), size)
    world.tell(name, fate)


@_move(3, _path)
def touch(world: World, name: str, fate: str) -> None:
    now = world.clock.now_ns()
    _do(world, "utime", _at(name), ns=(now, now))
    world.tell(name, fate)


@_move(6, _path)
def delete(world: World, name: str, fate: str) -> None:
    _do(world, "unlink", _at(name))
    world.tell(name, fate)


@_move(5, _two)
def rename(world: World, old: str, new: str, fate: str) -> None:
    _parents(world, new)
    _do(world, "rename", _at(old), _at(new))
    world.tell(old, fate)
    world.tell(new, fate)


@_move(4, _two)
def link(world: World, old: str, new: str, fate: str) -> None:
    _parents(world, new)
    _do(world, "link", _at(old), _at(new))
    world.tell(new, fate)


@_move(4, _two)
def swap(world: World, old: str, new: str, fate: str) -> None:
    _do(world, "exchange", _at(old), _at(new))
    world.tell(old, fate)
    world.tell(new, fate)


@_move(4, lambda chance: (chance.choice(DIRECTORIES), chance.choice(DIRECTORIES), chance.choice(FATES)))
def rename_directory(world: World, old: str, new: str, fate: str) -> None:
    _do(world, "rename", _at(old), _at(new))
    world.tell(old, fate, "a directory went")
    world.tell(new, fate, "a directory came")


@_move(
    4, lambda chance: (chance.choice(("d", "d/e", "a", "f")), chance.randrange(10**8), chance.choice(FATES))
)
def exchange_file_and_directory(world: World, name: str, key: int, fate: str) -> None:
    try:
        _do(world, "unlink", _at(name))
    except IsADirectoryError:
        _remove(world, name)
        _put(world, name, os.O_WRONLY | os.O_CREAT, _content(key, 3))
    else:
        _do(world, "mkdir", _at(name))
    world.tell(name, fate)
    world.tell(name, fate, "a directory came or went")


def _remove(world: World, name: str) -> None:
    fd = world.people.open(_at(name), os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = list(world.people.scandir(fd))
    finally:
        world.people.close(fd)
    for entry in entries:
        below = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            _remove(world, below)
        else:
            _do(world, "unlink", _at(below))
    _do(world, "rmdir", _at(name))


@_move(2, lambda chance: (chance.choice(NAMES), chance.choice(("symlink", "mkfifo")), chance.choice(FATES)))
def make_no_file(world: World, name: str, kind: str, fate: str) -> None:
    """A link or a fifo where there was a file, perhaps."""
    with suppress(FileNotFoundError):
        _do(world, "unlink", _at(name))
    if kind == "symlink":
        _do(world, "symlink", "../outside", _at(name))
    else:
        _do(world, "mkfifo", _at(name))
    world.tell(name, fate)


@_move(
    2, lambda chance: (chance.choice(NAMES + DIRECTORIES), chance.choice((0, 0, 0o755)), chance.choice(FATES))
)
def chmod(world: World, name: str, mode: int, fate: str) -> None:
    _do(world, "chmod", _at(name), mode)
    world.tell(name, fate)


# ---- the disk --------------------------------------------------------------------------------------------


@_move(3, lambda chance: (chance.choice(("open", "stat", "fstat", "read", "list")),
                          chance.choice(READING_ERRORS), chance.randint(1, 6)))  # fmt: skip
def disk_error(world: World, call: str, number: int, times: int) -> None:
    world.disk_errors.append(DiskError(call, number, times))


@_move(1)
def unmount(world: World) -> None:
    """No event comes; the empty directory below is seen."""
    world.tree.mounts.pop(world.mount_point, None)


@_move(1, lambda chance: (chance.randrange(10**8),))
def mount_another(world: World, key: int) -> None:
    """Another disk, with other files of the same names; perhaps it gets the device number of the first."""
    other = Volume(8 if key % 2 else world.volume.device, 8)
    world.tree.mounts[world.mount_point] = other
    for name in ("a", "f"):
        fd = world.people.open(_at(name), os.O_WRONLY | os.O_CREAT, 0o644)
        world.people.pwrite(fd, _content(key, 5), 0)
        world.people.close(fd)
        world.tell(name, "soon")


@_move(12, lambda chance: (chance.random() < 0.1, chance.random() < 0.5))
def mount_again(world: World, renumbered: bool, told: bool) -> None:
    """It comes back, perhaps with another device number."""
    if renumbered:
        world.is_doubtful = True  # unless most of the files that are recorded are there, unchanged
        world.volume.device = 7 if world.volume.device == 9 else 9
    world.tree.mounts[world.mount_point] = world.volume
    if told:
        world.tell("", "soon", "something was mounted")


@_move(1)
def empty(world: World) -> None:
    """Everything is removed."""
    for name in list(world.folder.entries):
        text = os.fsdecode(name)
        try:
            _do(world, "unlink", _at(text))
        except IsADirectoryError:
            _remove(world, text)
        world.tell(text, "soon")


# ---- the machine -----------------------------------------------------------------------------------------


@_move(3)
def overflow(world: World) -> None:
    world.overflow()


@_move(3, lambda chance: (chance.choice((-7200.0, -3600.0, -5.0, 30.0, 3600.0, 86400.0)),))
def set_clock(world: World, seconds: float) -> None:
    """By the old clock no file would be open for writing that changed a moment ago."""
    world.end_long_writes(until=math.inf)
    world.clock.jump(seconds)


@_move(8, lambda chance: (chance.randint(1, 30), chance.random() < 0.5))
def die(world: World, effects: int, after: bool) -> None:
    """Not now, but soon."""
    world.doom.left, world.doom.after = effects, after


@_move(3)
def restart(world: World) -> None:
    world.restart()


@_move(3)
def turn_policy(world: World) -> None:
    """The objects of deleted files are not kept any more."""
    world.turn_policy()


@_move(4, lambda chance: (chance.random() < 0.3,))
def fill_disk(world: World, full: bool) -> None:
    """The state cannot be written, or can be again."""
    world.disk_full = full
    if world.process is not None:
        world.process.disk_full = full


@_move(3, lambda chance: (chance.choice((1.0, 20.0, 300.0)), chance.random() < 0.5))
def pause(world: World, seconds: float, everything: bool) -> None:
    """The operator wants the line for a while; an upload under way has to stop between two parts."""
    if world.process is not None:
        until = world.clock.monotonic() + seconds
        paused = {} if everything else {"docs": until}
        world.process.line.workers.queue.hold(until if everything else -math.inf, paused)


@_move(3)
def hasten(world: World) -> None:
    """The operator cannot wait until files have settled."""
    if world.process is not None:
        world.process.line.workers.queue.hasten("docs")


# ---- the network -----------------------------------------------------------------------------------------


@_move(8, lambda chance: (chance.random() < 0.4,))
def turn_weather(world: World, bad: bool) -> None:
    world.store.weather = STORM if bad else FAIR


@_move(2, lambda chance: (chance.choice(sorted(OUTAGES)),))
def store_goes(world: World, how: str) -> None:
    world.store.down = OUTAGES[how]


@_move(10)
def store_comes(world: World) -> None:
    world.store.down = None


@_move(1)
def uploads_expire(world: World) -> None:
    world.store.uploads.clear()
    world.uploads_expired = True


@_move(0)
def lose_object(world: World, name: str) -> None:
    """An object is gone, and neither syncd nor anybody else has deleted it; `draw` makes no such move."""
    if world.store.objects.pop(f"p/{name}", None) is not None:
        world.checker.lost(name)


# ---- in the middle of things -----------------------------------------------------------------------------


def _rewriting(chance: Chance) -> tuple[Any, ...]:
    if chance.random() < 0.25:  # within the tick in which it was saved, and without an event
        return chance.choice(NAMES), PART - 1, _key(chance), "after put_object", 1, "lost", True
    call, nth = chance.choice(_READING), chance.randint(1, 9)
    return *_file(chance)[:3], call, nth if call == "read" else 1, chance.choice(FATES), chance.random() < 0.7


@_move(22, _rewriting)
def rewrite_while_it_is_read(
    world: World, name: str, size: int, key: int, call: str, nth: int, fate: str, restore: bool
) -> None:
    """A file is saved, and written again while it is carried."""
    again = Move("overwrite_in_place", (name, 0, key + 1, fate, restore))
    world.ambushes.append(Ambush(call, nth, lambda: make(world, again)))
    save(world, name, size, key, "soon")


_AMONG = (
    "save", "save_by_rename", "append", "overwrite_in_place", "truncate", "delete", "rename", "swap",
    "rename_directory", "exchange_file_and_directory", "unmount", "mount_again", "chmod", "set_clock",
    "empty",
    "store_goes", "make_no_file", "overwrite_in_place", "overwrite_in_place", "save", "mount_another",
)  # fmt: skip


def _lurking(chance: Chance) -> tuple[Any, ...]:
    name = chance.choice(_AMONG)
    return chance.choice(CALLS), chance.randint(1, 12), Move(name, MOVES[name][1](chance))


@_move(20, _lurking)
def lie_in_wait(world: World, call: str, nth: int, move: Move) -> None:
    """A move in the middle of what syncd does."""
    world.ambushes.append(Ambush(call, nth, lambda: make(world, move)))

"""A program that works in a folder as people and their programs do, from a seed, until it is told to stop.

    python -m tests.torture.campaign.writer HABIT FOLDER NAME SEED STATES STOP [MOST]

It works below FOLDER/NAME only, so that what it knows of its files stays true, and notes every state of every
name in STATES before anybody can see it. It ends when STOP exists, after MOST operations, or
when the process that started it has gone.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.states import State, StateLog, state_of

MIB = 1 << 20
SMALL_SIZES = (0, 1, 100, 5_000, 60_000, 400_000)
MEDIUM_SIZE = 4 * MIB
"""About the largest that still goes in one request: it takes some time to write and to read."""
MOST_MEDIUM = 2
LARGE_SIZES = (12 * MIB, 16 * MIB, 20 * MIB - 1)
MOST_FILES = 60
MOST_LARGE = 2
"""Large files at a time, of one writer."""
LONGEST_PAUSE_SECONDS = 0.12
"""Between two writes of one save: about as long as the daemon waits for a file to be quiet."""
_REST = 3.0
"""Pauses between two operations are so much longer."""
_STEPS = 4
"""A slow save has so many writes."""


class Writer:
    """One seed at work. Each method named in `PEOPLE` is one thing that a person or a program does."""

    def __init__(
        self,
        folder: Path,
        name: str,
        seed: int,
        log: StateLog,
        *,
        habit: str = "people",
        large: bool = True,
        pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._folder = folder
        self._name = name
        self._log = log
        self._chance = random.Random(f"{name} {seed}")
        self._sizes = LARGE_SIZES if large else (MIB,)
        self._pause_seconds = pause_seconds
        self._habit = HABITS[habit]
        self._numbers = 0
        self.files: dict[str, State] = {}
        """The files that there are, relative to the watched folder, and the state of each."""
        self.done = 0
        """Operations that changed something."""
        self.watch: Callable[[], None] = lambda: None
        """Called after every single change of the file system: for tests of this program."""
        (folder / name).mkdir(exist_ok=True)

    def step(self) -> None:
        """One operation, chosen by chance."""
        names, weights = zip(*self._habit.items(), strict=True)
        operation = self._chance.choices(names, weights)[0]
        if getattr(self, operation)() is not False:
            self.done += 1

    # ---- what people do ---------------------------------------------------------------------------------

    def create(self) -> bool:
        """A new file, written at once."""
        if len(self.files) >= MOST_FILES:
            return self.delete()
        self._truncate_and_write(self._new_name(), self._content())
        return True

    def create_large(self) -> bool:
        """A new file that is larger than a part, copied in as cp does it: piece by piece, without a pause."""
        large = [name for name, state in self.files.items() if state[0] >= self._sizes[0]]
        name = self._chance.choice(large) if len(large) >= MOST_LARGE else self._new_name()
        self._write_pieces(name, self._chance.randbytes(self._chance.choice(self._sizes)), MIB, pause=False)
        return True

    def save_by_rename(self) -> bool:
        """As editors save: beside, then over it."""
        name, beside = self._some_name(), self._new_name("save")
        self._truncate_and_write(beside, self._content())
        self._move(beside, name)
        return True

    def save_in_place(self) -> bool:
        """Truncate and write."""
        self._truncate_and_write(self._some_name(), self._content())
        return True

    def append(self) -> bool:
        """As a log grows: several writes, with pauses."""
        name = self._some_file()
        if name is None:
            return False
        content = bytearray(self._path(name).read_bytes())
        with self._path(name).open("ab", buffering=0) as file:
            for _ in range(self._chance.randrange(1, _STEPS)):
                more = self._chance.randbytes(self._chance.choice((10, 3_000, 70_000)))
                content += more
                self._write(file.write, name, content, more)
                self.pause()
        return True

    def save_slowly(self) -> bool:
        """Truncate, then write in steps with pauses."""
        content = self._content()
        self._write_pieces(self._some_name(), content, len(content) // _STEPS + 1, pause=True)
        return True

    def overwrite_unnoticed(self) -> bool:
        """Other bytes in the middle, of the same size, with the old modification time."""
        name = self._some_file(larger_than=10)
        if name is None:
            return False
        path = self._path(name)
        content, times = bytearray(path.read_bytes()), path.stat()
        size = min(len(content), self._chance.choice((1, 9, 50_000)))
        where = self._chance.randrange(len(content) - size + 1)
        with path.open("r+b", buffering=0) as file:
            file.seek(where)
            other = self._chance.randbytes(size)
            content[where : where + size] = other
            self._write(file.write, name, content, other)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.watch()
        return True

    def rewrite_in_place(self) -> bool:
        """As a database or a disk image is written: all of it, the same size, again and again."""
        medium = [name for name, state in self.files.items() if state[0] == MEDIUM_SIZE]
        if len(medium) >= MOST_MEDIUM:
            name = self._chance.choice(medium)
        else:
            name = self._new_name()
            self._truncate_and_write(name, self._pattern())
        with self._path(name).open("r+b", buffering=0) as file:
            for _ in range(self._chance.randrange(1, 2 * _STEPS)):
                self.pause(2)
                content = self._pattern()
                file.seek(0)
                self._write(file.write, name, content, content)
        return True

    def rename(self) -> bool:
        """To a new name, or over another file."""
        name = self._some_file()
        if name is None:
            return False
        other = self._new_name() if self._chance.random() < 0.7 else self._some_name()
        if other == name:
            return False
        self._move(name, other)
        return True

    def rename_directory(self) -> bool:
        """With all that is in it."""
        found = sorted({os.path.dirname(name) for name in self.files} - {self._name})
        if not found:
            return False
        old, new = self._chance.choice(found), f"{self._name}/{self._number('d')}"
        inside = [name for name in self.files if name.startswith(f"{old}/")]
        for name in inside:
            self._log.add(new + name.removeprefix(old), self.files[name])
        os.rename(self._path(old), self._path(new))
        for name in inside:
            self.files[new + name.removeprefix(old)] = self.files.pop(name)
        self.watch()
        return True

    def delete(self) -> bool:
        """For good."""
        name = self._some_file()
        if name is None:
            return False
        self._path(name).unlink()
        del self.files[name]
        self.watch()
        return True

    def recreate(self) -> bool:
        """Deleted, and at once there again with other bytes."""
        name = self._some_file()
        if name is None:
            return False
        self.delete_named(name)
        self._truncate_and_write(name, self._content())
        return True

    def copy(self) -> bool:
        """A twin under another name."""
        name = self._some_file()
        if name is None:
            return False
        content = self._path(name).read_bytes()
        self._write_pieces(self._new_name(), content, MIB, pause=False)
        return True

    def touch(self) -> bool:
        """Another time, the same bytes."""
        name = self._some_file()
        if name is None:
            return False
        os.utime(self._path(name))
        self.watch()
        return True

    # ---- how they do it ---------------------------------------------------------------------------------

    def delete_named(self, name: str) -> None:
        """One file of which we know."""
        self._path(name).unlink()
        del self.files[name]
        self.watch()

    def _truncate_and_write(self, name: str, content: bytes) -> None:
        self._write_pieces(name, content, max(1, len(content)), pause=False)

    def _write_pieces(self, name: str, content: bytes, piece: int, *, pause: bool) -> None:
        self._log.add(name, state_of(b""))
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        with path.open("wb", buffering=0) as file:
            self.files[name] = state_of(b"")
            self.watch()
            for start in range(0, len(content), piece):
                end = min(len(content), start + piece)
                self._write(file.write, name, memoryview(content)[:end], content[start:end])
                if pause:
                    self.pause()

    def _write(
        self,
        write: Callable[[bytes], int | None],
        name: str,
        whole: bytes | bytearray | memoryview,
        piece: bytes,
    ) -> None:
        """One write(2), after which the file is `whole`."""
        state = state_of(whole)
        self._log.add(name, state)
        if write(piece) != len(piece):
            raise AssertionError("half a write")
        self.files[name] = state
        self.watch()

    def _move(self, old: str, new: str) -> None:
        self._log.add(new, self.files[old])
        self._path(new).parent.mkdir(exist_ok=True)
        os.rename(self._path(old), self._path(new))
        self.files[new] = self.files.pop(old)
        self.watch()

    def pause(self, times: float = 1.0) -> None:
        """People think, programs wait."""
        time.sleep(times * self._chance.random() * self._pause_seconds)

    # ---- choosing ---------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _content(self) -> bytes:
        return self._chance.randbytes(self._chance.choice(SMALL_SIZES))

    def _some_file(self, larger_than: int = -1) -> str | None:
        found = sorted(name for name, state in self.files.items() if state[0] > larger_than)
        return self._chance.choice(found) if found else None

    def _pattern(self) -> bytes:
        """Content in which a mixture of two would show, cheaply made."""
        return self._chance.randbytes(64) * (MEDIUM_SIZE // 64)

    def _some_name(self) -> str:
        """Of a file that there is, or a new one."""
        name = self._some_file() if self._chance.random() < 0.8 else None
        return name or self._new_name()

    def _new_name(self, stem: str = "f") -> str:
        directories = sorted({os.path.dirname(name) for name in self.files} | {self._name})
        directory = self._chance.choice(directories)
        if self._chance.random() < 0.1:
            directory = f"{self._name}/{self._number('d')}"
        return f"{directory}/{self._number(stem)}"

    def _number(self, stem: str) -> str:
        self._numbers += 1
        return f"{stem}{self._numbers}"


PEOPLE = {
    "create": 20, "create_large": 3, "save_by_rename": 12, "save_in_place": 10, "append": 8, "save_slowly": 5,
    "overwrite_unnoticed": 8, "rename": 8, "rename_directory": 2, "delete": 6, "recreate": 5, "copy": 8,
    "touch": 5, "rewrite_in_place": 1,
}  # fmt: skip
HABITS = {"people": PEOPLE, "database": {"rewrite_in_place": 1}}
"""What is done, and how often beside the rest."""


def main(arguments: list[str]) -> None:
    """Work until told to stop; prints how many operations there were."""
    habit, folder, name, seed, states, stop, *most = arguments
    with StateLog(Path(states)) as log:
        writer = Writer(Path(folder), name, int(seed), log, habit=habit)
        parent = os.getppid()
        while os.getppid() == parent and not os.path.exists(stop):
            if most and writer.done >= int(most[0]):
                break
            writer.step()
            writer.pause(_REST if habit == "people" else 1.0)
    print(writer.done)


if __name__ == "__main__":
    main(sys.argv[1:])

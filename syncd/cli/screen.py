"""The bars of `sync` and `restore`. Only commands that draw them import this: rich is slow to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from syncd.core.model import FileRef
from syncd.core.paths import printable
from syncd.core.words import counted, human, human_seconds

if TYPE_CHECKING:
    from rich.progress import TaskID

    from syncd.pipeline.pipeline import Pipeline

LARGE = 16 << 20
"""Files of this size and more get their own line, in bytes."""
_MOST_LINES = 8


class Bars:
    """The progress of a pass on a terminal: one bar for everything, one for each large file."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (  # late: the table of `status` does not need it
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=30),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
            refresh_per_second=5,
        )
        self._all = self._progress.add_task("scanning", total=None, pace="")
        self._files: dict[FileRef, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, pipeline: Pipeline) -> None:
        """Draw what is in progress."""
        source_runners = list(pipeline.source_runners.values())
        scanning = not all(runner.first_scan_done.is_set() for runner in source_runners)
        found = sum(runner.news.found_bytes for runner in source_runners)
        flying = pipeline.in_flight()
        done = pipeline.tally.bytes_finished + sum(item[1] for item in flying)
        files = pipeline.tally.actions.total()
        rate, left = pipeline.outlook()
        what = f"{'scanning' if scanning else 'carrying'}, {counted(files, 'file')} done"
        self.draw(what, done, found, flying, rate, None if scanning else left)

    def draw(
        self,
        what: str,
        done: int,
        found: int,
        flying: Sequence[tuple[FileRef, int, int]],
        rate: float | None,
        left: float | None,
    ) -> None:
        """Draw `done` of the `found` bytes; the files in progress, with bytes done and in all; and bytes per
        second and seconds left, if known.
        """
        pace = [f"{human(round(rate))}/s"] if rate else []
        pace += [f"{human_seconds(left)} left"] if left is not None else []
        total = max(found, done) or None
        self._progress.update(self._all, description=what, total=total, completed=done, pace=", ".join(pace))
        self._update_files([item for item in flying if item[2] >= LARGE][:_MOST_LINES])

    def _update_files(self, large: list[tuple[FileRef, int, int]]) -> None:
        current = {ref for ref, _, _ in large}
        for ref in [ref for ref in self._files if ref not in current]:
            self._progress.remove_task(self._files.pop(ref))
        for ref, done, total in large:
            if ref not in self._files:
                name = escape(_short(printable(ref.path)))
                self._files[ref] = self._progress.add_task(f"  {name}", total=total, pace="")
            self._progress.update(self._files[ref], completed=done, total=total)


def _short(name: str, width: int = 36) -> str:
    return name if len(name) <= width else "…" + name[-(width - 1) :]

"""What a step says about a file: what became of it, or that nothing may be concluded."""

from __future__ import annotations

from typing import NamedTuple

from syncd.core.errors import FileUnreadable
from syncd.core.model import Action


class RootChanged(FileUnreadable):
    """The source's root is not the directory that it was: nothing may be concluded about any file."""


class Outcome(NamedTuple):
    """What became of one file."""

    action: Action
    bytes_sent: int = 0
    bytes_saved: int = 0
    look_again_seconds: float | None = None
    """The record is too young to be trusted: mark it again after this."""
    doubt_seconds: float | None = None
    """For so long a request whose answer was lost may yet be carried out: then the object is to be compared
    once more. Until then the file counts as carried."""
    size: int = 0
    """Of the file, in bytes."""
    wants_delete: bool = False
    """The object should go, but nobody has allowed it yet."""

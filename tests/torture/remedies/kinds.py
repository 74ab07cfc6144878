"""The nouns of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Text of a file and what stands there instead, once the remedy is gone. `old` occurs exactly once."""

    file: str
    """Relative to the project."""
    old: str
    new: str


@dataclass(frozen=True)
class Remedy:
    """One way in which syncd meets a hazard.

    Where two lines of defence stand one behind the other, `edits` takes both away, and `says` tells so.
    """

    hazard: str
    """The hazard's short name, by section and number: ``W1``, ``U3``."""
    says: str
    """What would go wrong without it."""
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Ids as pytest takes them, without parameters; at least one of them fails without the remedy."""

"""Remedies: multipart."""

from __future__ import annotations

from tests.remedies.kinds import Edit, Remedy

__all__ = ["Edit"]

REMEDIES: tuple[Remedy, ...] = ()

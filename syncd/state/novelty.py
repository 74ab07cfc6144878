"""Files and contents that are certainly new: nobody needs to ask the database about them.

A first pass asks twice for every file, for a row under its path and for a row with its content, and hardly
ever is there one. Where the database was empty when it was opened, all that came in since is known here, so
most of these questions are answered without it. Where it was not, nothing is known, and it is asked.
"""

from __future__ import annotations

from syncd.core.model import FileRef, Fingerprint
from syncd.state.bloom import BloomFilter


class Newcomers:
    """What may be in a database that was `empty` when it was opened. For any thread."""

    def __init__(self, *, empty: bool) -> None:
        self._files = BloomFilter() if empty else None
        self._contents = BloomFilter() if empty else None

    def committed(self, ref: FileRef, content: Fingerprint) -> None:
        """To be told before anybody can find the row."""
        if self._files is not None and self._contents is not None:
            self._files.add(hash(ref))
            self._contents.add(_number(content))

    def is_new_file(self, ref: FileRef) -> bool:
        """There is certainly no row of this file."""
        return self._files is not None and not self._files.may_hold(hash(ref))

    def is_new_content(self, content: Fingerprint) -> bool:
        """There is certainly no row with this content, of any file in any store."""
        return self._contents is not None and not self._contents.may_hold(_number(content))


def _number(content: Fingerprint) -> int:
    return int.from_bytes(content.digest[:8])

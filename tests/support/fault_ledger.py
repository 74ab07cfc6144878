"""What went through a fault proxy: each request, what was done to it, and where its bytes count.

Bytes of content (bodies of puts and parts) are divided without a rest::

    forwarded = useful + repeated + lost to faults + lost to clients + refused

*Useful* is content that the client was told to be there, the first time. *Repeated* is what it then sends to
the same place again though nothing else came there in between: for a part, the same number of an upload of
the same file content, whether or not under the same upload id, also once the upload is complete. (BOS learns
the content at the end of an upload only: there, the same upload.)
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from tests.support.http_pieces import Head

_DIGEST_HEADER = "syncd-xxh128"
"""The end of the name of the header that tells the content of the object that an upload is to make."""


class Passage:
    """One request on its way. For the thread of its connection."""

    def __init__(self, number: int, head: Head, kind: str | None) -> None:
        self.number = number
        self.head = head
        self.kind = kind
        """What was chosen to happen to it, see `tests.support.fault_proxy.KINDS`; None: it passes."""
        self.size = 0
        """Bytes of the body that went on to the server."""
        self.status = 0
        """What the server answered; 0: nothing, or it was not asked."""
        self.is_delivered = False
        """The client got the server's answer as it was."""
        self._digest = xxhash.xxh3_128()

    def forwarded(self, piece: bytes) -> None:
        self.size += len(piece)
        self._digest.update(piece)

    def answered(self, status: int) -> None:
        self.status = status

    def delivered(self) -> None:
        self.is_delivered = True

    def broke(self) -> None:
        """One end went away in the middle of it."""
        self.is_delivered = False

    @property
    def digest(self) -> str:
        """XXH3-128 of what went on."""
        return self._digest.hexdigest()

    @property
    def is_content(self) -> bool:
        """A put or a part with content of its own: not a copy, not a document."""
        return self.head.method == "PUT" and not any("copy-source" in name for name in self.head.headers)

    @property
    def is_acknowledged(self) -> bool:
        return self.is_delivered and 200 <= self.status < 300

    def row(self) -> dict[str, object]:
        """For the log."""
        return {
            "number": self.number,
            "request": self.head.request,
            "fault": self.kind,
            "size": self.size,
            "status": self.status,
            "delivered": self.is_delivered,
        }


@dataclass
class Bytes:
    """Bytes of content by what became of them."""

    forwarded: int = 0
    useful: int = 0
    repeated: int = 0
    lost_to_faults: int = 0
    lost_to_clients: int = 0
    refused: int = 0
    by_key: Counter[str] = field(default_factory=Counter)
    """Forwarded, by key."""
    useful_by_key: Counter[str] = field(default_factory=Counter)


class Ledger:
    """For all threads."""

    def __init__(self) -> None:
        self.bytes = Bytes()
        self.faults: Counter[str] = Counter()
        """By kind, of those that could take effect."""
        self.repeats: list[dict[str, object]] = []
        self.at_risk = 0
        """Bytes that were acknowledged so shortly before a kill that it may have forgotten them."""
        self._rows: list[dict[str, object]] = []
        self._lock = threading.Lock()
        self._numbers = 0
        self._targets: list[str] = []
        self._objects: dict[str, str] = {}
        self._parts: dict[tuple[str, str, str], str] = {}
        self._uploading: dict[str, str] = {}
        self._recent: deque[int] = deque()

    def next_number(self) -> int:
        """From 1, in the order of the requests."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def begin(self, number: int, head: Head, kind: str | None) -> Passage:
        """A request came."""
        with self._lock:
            self._targets.append(head.request)
            if kind is not None:
                self.faults[kind] += 1
        return Passage(number, head, kind)

    def end(self, passage: Passage) -> None:
        """It is over, one way or the other."""
        with self._lock:
            self._rows.append(passage.row())
            if passage.is_content:
                self._count(passage)
            elif passage.is_acknowledged or 200 <= passage.status < 300:
                self._learn(passage.head, passage.number)

    def killed(self, in_flight: int) -> None:
        """The client was killed: of its last `in_flight` acknowledged bodies it may have recorded nothing."""
        with self._lock:
            self.at_risk += sum(list(self._recent)[-in_flight:])
            self._recent.clear()

    @property
    def requests(self) -> int:
        """How many there were."""
        with self._lock:
            return self._numbers

    @property
    def targets(self) -> list[str]:
        """Method and target of each request so far, in the order in which they began."""
        with self._lock:
            return list(self._targets)

    def story(self) -> list[dict[str, object]]:
        """What is known of each request that is over."""
        with self._lock:
            return list(self._rows)

    def write(self, path: Path, more: Iterable[dict[str, object]] = ()) -> None:
        """Keep everything as lines of JSON."""
        with self._lock:
            rows = [*self._rows, *more]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    # ---- counting ---------------------------------------------------------------------------------------

    def _count(self, passage: Passage) -> None:
        size, key = passage.size, passage.head.key
        self.bytes.forwarded += size
        self.bytes.by_key[key] += size
        if passage.is_acknowledged:
            self._recent.append(size)
            if self._is_repeat(passage):
                self.bytes.repeated += size
                self.repeats.append(passage.row())
            else:
                self.bytes.useful += size
                self.bytes.useful_by_key[key] += size
        elif passage.is_delivered:
            self.bytes.refused += size
        elif passage.kind is not None:
            self.bytes.lost_to_faults += size
        else:
            self.bytes.lost_to_clients += size

    def _is_repeat(self, passage: Passage) -> bool:
        """Remember the content of a place; whether it was known to be there."""
        key, number = passage.head.key, passage.head.query.get("partNumber")
        if number is None:
            known = self._objects.get(key)
            self._objects[key] = passage.digest
            self._forget_parts(key)
        else:
            place = (key, self._uploading.get(key, ""), number)
            known = self._parts.get(place)
            self._parts[place] = passage.digest
        return known == passage.digest and passage.size > 0

    def _learn(self, head: Head, number: int) -> None:
        """What else changes what is at a place: a copy, a new upload, one that is complete, a deletion."""
        if head.method == "POST" and "uploads" in head.query:
            told = [value for name, value in head.headers.items() if name.endswith(_DIGEST_HEADER)]
            self._uploading[head.key] = told[0] if told else f"unknown {number}"
        elif head.method == "POST" and "uploadId" in head.query:
            self._objects.pop(head.key, None)
            self._forget_parts(head.key, but=self._uploading.get(head.key))  # those are in the object now
        elif head.method == "PUT" and "partNumber" not in head.query:
            self._objects.pop(head.key, None)
            self._forget_parts(head.key)
        elif head.method == "DELETE" and "uploadId" not in head.query:
            self._objects.pop(head.key, None)

    def _forget_parts(self, key: str, but: str | None = None) -> None:
        """What was sent for other contents of this key than `but` is of no use any more."""
        self._parts = {
            place: digest for place, digest in self._parts.items() if place[0] != key or place[1] == but
        }

"""Finds, remembers and checks again which digest a server verifies.

Better digests cost more of the processor, and servers verify different ones. So we probe a store with parts
of an upload that we abort: for each check of its dialect, the cheapest first, one part with the right digest
and one with that of another body. We use the first check for which the store refuses the wrong part. A probe
that fails changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

from syncd.core.errors import AccessRefused, PartCorrupt, StoreError, StoreRefused, StoreUnavailable
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.storage.base import Digests, Finding, Memory

MEANT, SENT = b"what the digest says", b"what the body says! "
"""What the digest of a probe's part is of, and what the part holds."""
QUESTION_SIZE = len(MEANT)
"""Bytes of each part of a probe."""
_GOOD_SECONDS = 30 * 86400.0
"""Servers get new versions."""
_REST_SECONDS = 3600.0
"""After a failed probe."""
_log = logging.getLogger("syncd.store")


class Dialect(Protocol):
    """What we need of a dialect; `syncd.storage.http.messages` explains it."""

    @property
    def store_id(self) -> str: ...

    @property
    def checks(self) -> tuple[str, ...]: ...

    @property
    def usual_check(self) -> str: ...


class Uploads(Protocol):
    """Makes and aborts the upload of a probe, and sends its parts."""

    def begin(self, key: str, meta: ObjectMeta) -> str: ...

    def try_digest(self, key: str, upload_id: str, number: int, check: str) -> Digests:
        """Send part `number` with the right digest, and the next one, `SENT`, with that of `MEANT`.

        Raises the refusal of the right part: that of the wrong one would be about the same. The numbers
        differ, since some servers refuse a part that they have.
        """
        ...

    def abort_multipart_upload(self, key: str, upload_id: str) -> None: ...


class Checks:
    """What one store does with digests, for any thread. `now` gives Unix seconds."""

    def __init__(self, dialect: Dialect, memory: Memory | None, now: Callable[[], float]) -> None:
        self._dialect = dialect
        self._memory = memory
        self._now = now
        self._asking = threading.Lock()
        self._asked = -_REST_SECONDS

    def found(self) -> Finding:
        """Return the remembered finding. The settings may want another check by now."""
        return _parsed(self._memory.recall(self._dialect.store_id) if self._memory is not None else "")

    def ask_in_time(self, key: str, uploads: Uploads) -> None:
        """Probe and remember, if a cheaper check than the usual may exist; seldom, in one thread.

        Raises StoreUnavailable if an upload under `key` may remain.
        """
        memory, now = self._memory, self._now()
        if memory is None or len(self._dialect.checks) < 2 or self._dialect.checks[0] != "crc32":
            return
        found = self.found()
        # A check that the store makes says nothing about another one.
        is_of_use = found.check in ("", *self._dialect.checks)
        if (is_of_use and 0 <= now - found.asked < _GOOD_SECONDS) or 0 <= now - self._asked < _REST_SECONDS:
            return
        if not self._asking.acquire(blocking=False):
            return
        try:
            self._asked = now
            finding = self.ask(key, uploads)
            if finding is not None:
                memory.remember(self._dialect.store_id, str(finding))
                _log.info("%s: bodies are checked by %s", self._dialect.store_id, finding.check)
        except StoreError as error:
            if isinstance(error, StoreUnavailable) and error.outcome_unknown:
                raise
            _log.info("%s: it was not found out which digests it checks: %s", self._dialect.store_id, error)
        finally:
            self._asking.release()

    def ask(self, key: str, uploads: Uploads) -> Finding | None:
        """Return the cheapest check that the store makes, else what it does with the usual one.

        None: requests carry no digest. Makes no object. Raises StoreError, also if it cannot abort the
        upload.
        """
        checks = self._dialect.checks
        if not checks:
            return None
        upload_id = uploads.begin(key, ObjectMeta(Fingerprint(bytes(16), len(MEANT)), 0))
        found: dict[str, Digests] = {}
        refused: StoreError | None = None
        try:
            for number, check in zip(range(1, 100, 2), checks, strict=False):
                try:
                    found[check] = uploads.try_digest(key, upload_id, number, check)
                except AccessRefused:
                    raise
                except (StoreRefused, PartCorrupt) as error:  # the store does not take this digest at all
                    refused = error
                if found.get(check) is Digests.CHECKED:
                    return self._finding(found, check)
        finally:
            uploads.abort_multipart_upload(key, upload_id)
        if refused is not None and not found:
            raise refused
        usual = self._dialect.usual_check
        return self._finding(found, usual if usual in found else next(reversed(found)))

    def _finding(self, found: Mapping[str, Digests], check: str) -> Finding:
        return Finding(found[check], check, int(self._now()), check == self._dialect.usual_check)


@lru_cache(8)
def _parsed(text: str) -> Finding:
    try:
        return Finding.of(text)
    except ValueError:  # of a newer version
        return Finding(Digests.CHECKED)

"""Opens the store that settings describe: joins dialect, transport and retry with their context.

It imports the code of a kind of store when it opens one: most configurations have one kind.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from msgspec import Struct

from syncd.storage.base import Breaker, Clock, Heartbeat, Memory, Meter, ObjectStore
from syncd.storage.retry import Retries, RetryingStore, UnderWay, Unsettled
from syncd.storage.settings import BosSettings, DirSettings, S3Settings, StoreSettings

if TYPE_CHECKING:
    from syncd.storage.http.messages import Dialect


class StoreContext(Struct, frozen=True):
    """The clock, meter, breaker and callbacks that a store uses."""

    clock: Clock
    should_stop: Callable[[], bool] = lambda: False
    """Called between requests, and while a request waits for the server."""
    heartbeat: Heartbeat = Heartbeat()
    meter: Meter = Meter()
    breaker: Breaker = Breaker()
    instance: Memory = Memory()
    """Remembers the identity of a directory store."""
    retries: Retries = Retries()
    unsettled: Unsettled = lambda key, creates: None
    under_way: UnderWay = lambda key, creates: nullcontext()
    copied: Callable[[str], object] = lambda store_id: None
    """Called if a directory is a copy of the one used before, and may lack later objects."""
    digests: Memory | None = None
    """Remembers what a store does with digests; None: do not probe it."""
    silence: Callable[[str], str] = lambda path: ""
    """Returns why a path must not be accessed (its file server does not answer); empty: it may be."""
    awaited: dict[int, int] | None = None
    """The descriptors on which threads wait for a server, by thread."""
    version_keys: Memory = Memory()
    """Remembers how BOS takes keys that begin with ``v1/``."""


def open_store(settings: StoreSettings, context: StoreContext) -> ObjectStore:
    """Return the store that the settings describe, with retry.

    Opens no connection yet. Raises AccessRefused if the endpoint is not an address.
    """
    return RetryingStore(
        _open(settings, context),
        context.clock,
        context.breaker,
        context.retries,
        context.unsettled,
        context.under_way,
    )


def _open(settings: StoreSettings, context: StoreContext) -> ObjectStore:
    if not isinstance(settings, DirSettings):
        return _open_http(settings, context)
    from syncd.storage.dir.store import DirStore

    return DirStore(settings, context.instance, context.meter, context.heartbeat, copied=context.copied)


def _open_http(settings: BosSettings | S3Settings, context: StoreContext) -> ObjectStore:
    from syncd.storage.http.connect import Line
    from syncd.storage.http.credentials import credentials_source
    from syncd.storage.http.store import HttpStore
    from syncd.storage.http.transport import ControlAndContent

    meter, dialect = context.meter, _dialect(settings, context)
    line = Line(
        settings.http,
        should_stop=context.should_stop,
        on_sent=meter.sent,
        on_received=meter.received,
        silence=context.silence,
        awaited=context.awaited,
    )
    keys = credentials_source(
        settings.keys,
        chain=isinstance(settings, S3Settings),
        should_stop=context.should_stop,
        silence=context.silence,
    )
    return HttpStore(
        dialect, ControlAndContent(line), keys, context.clock.now, meter, keys.forget, context.digests
    )


def _dialect(settings: BosSettings | S3Settings, context: StoreContext) -> Dialect:
    if isinstance(settings, BosSettings):
        from syncd.storage.bos.dialect import BosDialect

        return BosDialect(settings, context.version_keys)
    from syncd.storage.s3.dialect import S3Dialect

    return S3Dialect(settings)

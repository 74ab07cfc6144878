"""Opens the store that settings describe: joins dialect, transport and retry with their context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from syncd.storage.base import Breaker, Clock, Heartbeat, Instance, Meter, ObjectStore
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.dir.store import DirStore
from syncd.storage.http.credentials import credentials_source
from syncd.storage.http.messages import Dialect
from syncd.storage.http.store import HttpStore
from syncd.storage.http.transport import open_transport
from syncd.storage.retry import Retries, RetryingStore, Unsettled
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import BosSettings, DirSettings, S3Settings, StoreSettings


@dataclass(frozen=True, slots=True)
class StoreContext:
    """The clock, meter, breaker and callbacks that a store uses."""

    clock: Clock
    should_stop: Callable[[], bool] = lambda: False
    """Called between requests, and while a request waits for the server."""
    heartbeat: Heartbeat = Heartbeat()
    meter: Meter = Meter()
    breaker: Breaker = Breaker()
    instance: Instance = Instance()
    retries: Retries = Retries()
    unsettled: Unsettled = lambda key, creates: None
    digests: Callable[[str], str] = lambda store_id: ""
    """What is remembered under `DIGESTS` for a store id; empty: nothing."""


def open_store(settings: StoreSettings, context: StoreContext) -> ObjectStore:
    """The store that the settings describe, with retry. Opens no connection yet.

    Raises AccessRefused when the endpoint in the settings is not an address.
    """
    return RetryingStore(
        _open(settings, context), context.clock, context.breaker, context.retries, context.unsettled
    )


def _open(settings: StoreSettings, context: StoreContext) -> ObjectStore:
    meter = context.meter
    if isinstance(settings, DirSettings):
        return DirStore(settings, context.instance, meter, context.heartbeat)
    dialect: Dialect = BosDialect(settings) if isinstance(settings, BosSettings) else S3Dialect(settings)
    transport = open_transport(
        settings.http, should_stop=context.should_stop, on_sent=meter.sent, on_received=meter.received
    )
    keys = credentials_source(settings.keys, chain=isinstance(settings, S3Settings))
    store_id = dialect.store_id

    def digests() -> str:
        return context.digests(store_id)

    return HttpStore(dialect, transport, keys, context.clock.now, meter, keys.forget, digests)

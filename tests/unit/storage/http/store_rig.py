"""A store for a server of scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncd.storage.base import Clock
from syncd.storage.opening import StoreContext
from syncd.storage.settings import HttpSettings, KeySettings, S3Settings

NOW = 1_800_000_000.0
SETTINGS = S3Settings(HttpSettings("http://127.0.0.1:1"), "photos", keys=KeySettings("AKID", "secret"))


def context(sleep: Callable[[float], None] = lambda seconds: None, **more: Any) -> StoreContext:
    return StoreContext(Clock(lambda: NOW, sleep, lambda: 0.5), **more)

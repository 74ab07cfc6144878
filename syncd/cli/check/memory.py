"""Records what a check found out about a store; for `digests`, `conditions` and others."""

from __future__ import annotations

import time
from contextlib import closing

from syncd.cli import common
from syncd.core.errors import StateError
from syncd.daemon import control
from syncd.state.lock import StateLock
from syncd.state.state import State


def remember(store: str, store_id: str, name: str, found: str, state_dir: str) -> str:
    """Send new findings to the daemon, or write them into the state if none runs. Return why that failed."""
    try:
        if common.learned(state_dir, store_id, name=name) == found:
            return ""
        answer = control.ask(state_dir, {"command": "learn", "store": store, "name": name, "found": found})
        if answer is not None:
            return str(answer.get("error", ""))
        State.open_read_only(state_dir).close()  # a check makes no state
        lock = StateLock.acquire(state_dir)
        try:
            with closing(State.open(state_dir, now_ns=time.time_ns)) as state:
                state.learn(store_id, name, found)
        finally:
            lock.release()
    except (StateError, OSError, ValueError) as error:
        return f"{error}; run `syncd check` again later"
    return ""

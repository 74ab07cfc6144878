"""The paths on the address of `http`: the page, health, metrics, and `syncd.daemon.verbs` as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from syncd.core.words import details
from syncd.daemon.http import metrics, public
from syncd.daemon.http.message import Answer, as_json
from syncd.daemon.http.server import Access, Call, Route
from syncd.daemon.live import Live
from syncd.daemon.verbs import Verbs, listed

API = "/api/v1"
_ASK = {"explain": "file", "pending": "pending", "history": "history", "health": "health"}
"""Questions that need the token, and their verbs."""
_STEER = ("pause", "resume", "flush", "rescan", "retry", "limit", "reload")
_HTML = "text/html; charset=utf-8"
_FILES = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
_MOST_LISTED = 100
_DONT = 503


def routes(verbs: Verbs, live: Live, lives: Callable[[], bool]) -> Mapping[str, Route]:
    """Return the routes by their paths. `lives` returns whether the daemon's pulse beats."""

    def livez(call: Call) -> Answer:
        return Answer(b"ok\n") if lives() else Answer(b"stuck\n", status=_DONT)

    def readyz(call: Call) -> Answer:
        ready = verbs.answer({"command": "health"})["ready"]
        return Answer(b"ok\n") if ready else Answer(b"the first scan is not over\n", status=_DONT)

    def tell_metrics(call: Call) -> Answer:
        status = live.status(verbs.sources())
        started = live.started_seconds
        text = metrics.render(status, live.measured(), lives=lives(), started_seconds=started)
        return Answer(text, metrics.CONTENT_TYPE)

    def status(call: Call) -> Answer:
        if call.access is Access.ALL:
            return as_json(verbs.answer({"command": "status"}))
        return as_json(public.to_json(live.status(verbs.sources())))

    def show(call: Call) -> Answer:
        from syncd.daemon.http import page  # late: a daemon whose page is not opened needs none

        if call.access is Access.NOTHING:
            return Answer(page.render_locked().encode(), _HTML)
        status, names = live.status(verbs.sources()), call.access is Access.ALL
        # Not by the verb, which first writes what waits: if that fails, the page has to say so.
        last = verbs.pipeline.state.history.last(page.MOST_ACTIONS) if names else ()
        has_token = bool(verbs.settings().http.token)
        shown = page.render(status, listed(last), names=names, has_token=has_token)
        return Answer(shown.encode("utf-8", "replace"), _HTML)

    def ask(verb: str) -> Route:
        return Route(lambda call: as_json(_in_lines(verbs.answer(_question(call, verb)))), Access.ALL)

    def steer(verb: str) -> Route:
        return Route(lambda call: as_json(verbs.answer(_order(call, verb), call.asks)), Access.ALL, "POST")

    return {
        "/": Route(show, Access.NOTHING),
        **{f"/{name}": _file(name, type) for name, type in _FILES.items()},
        "/livez": Route(livez, Access.NOTHING),
        "/readyz": Route(readyz, Access.NOTHING),
        "/metrics": Route(tell_metrics),
        f"{API}/status": Route(status),
        **{f"{API}/{name}": ask(verb) for name, verb in _ASK.items()},
        **{f"{API}/{verb}": steer(verb) for verb in _STEER},
    }


def _file(name: str, type: str) -> Route:
    def read(call: Call) -> Answer:
        with open(os.path.join(os.path.dirname(__file__), name), "rb") as file:
            return Answer(file.read(), type)

    return Route(read, Access.NOTHING)


def _question(call: Call, verb: str) -> dict[str, Any]:
    limit = call.request.query.get("limit", str(_MOST_LISTED))
    if not limit.isdecimal():
        raise ValueError("the limit is a number")
    return {**call.request.query, "limit": int(limit), "command": verb}


def _in_lines(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer about a file, also in lines for people, as `syncd explain` prints them."""
    return answer | {"lines": list(details(answer))} if "rule" in answer else answer


def _order(call: Call, verb: str) -> dict[str, Any]:
    try:
        order = json.loads(call.body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004  a bad message, not a bad call
    return {**order, "command": verb}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")

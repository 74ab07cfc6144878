"""What lies on the address of `http`: health, metrics, and the verbs of `syncd.daemon.verbs` as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from syncd.daemon.http import metrics
from syncd.daemon.http.message import Answer
from syncd.daemon.http.server import Access, Call, Route
from syncd.daemon.live import Live
from syncd.daemon.verbs import Verbs

_DONT = 503


def routes(verbs: Verbs, live: Live, lives: Callable[[], bool]) -> Mapping[str, Route]:
    """The routes by their paths. `lives` says whether the daemon's pulse beats."""

    def livez(call: Call) -> Answer:
        return Answer(b"ok\n") if lives() else Answer(b"stuck\n", status=_DONT)

    def readyz(call: Call) -> Answer:
        ready = verbs.answer({"command": "health"})["ready"]
        return Answer(b"ok\n") if ready else Answer(b"the first scan is not over\n", status=_DONT)

    def tell_metrics(call: Call) -> Answer:
        status = live.status(verbs.sources())
        text = metrics.render(status, lives=lives(), started_seconds=live.started_seconds)
        return Answer(text, metrics.CONTENT_TYPE)

    return {
        "/livez": Route(livez, Access.NOTHING),
        "/readyz": Route(readyz, Access.NOTHING),
        "/metrics": Route(tell_metrics),
    }

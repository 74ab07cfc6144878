"""The page for people: a `Status` as HTML. Pure.

The page shows everything without a script. `page.js` asks for the same page again and changes what differs,
so this module is the only way from a status to what is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from syncd.core.words import human, human_seconds
from syncd.daemon.http.markup import Html, element, joined
from syncd.daemon.http.sayings import Says, count_words, files_words, kind_of, sayings
from syncd.daemon.status import FailureReport, InFlight, LiveSource, SourceReport, Status, what_waits

MOST_ACTIONS = 30
_MOST_IN_FLIGHT = 20
_MOST_OTHERS = 3
_MOST_NAMES = 50  # of files that failed for one reason
_FLUSH_SECONDS = 300
_RATES = "Write 2MiB for 2 MiB per second, or a timetable such as 08:00,512K 19:00,off."
_TIMES = {"": "until I change it", "3600": "for an hour", "28800": "for 8 hours", "86400": "for a day"}
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' "
    "height='32' rx='8' fill='%230b62c4'/%3E%3Cpath d='M16 24V9m-6 6 6-6 6 6' fill='none' stroke='white' "
    "stroke-width='3.2' stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E"
)
_SIGNS = {
    "ok": "M5 12.5l4.5 4.5L19 7.5",
    "busy": "M12 19V6m-6 6l6-6 6 6",
    "rest": "M9 6v12M15 6v12",
    "bad": "M12 5v9m0 4.5v.1",
}
"""A sign beside each colour, for readers who cannot tell colours apart."""


def render(status: Status, actions: Sequence[Mapping[str, Any]], *, names: bool, has_token: bool) -> str:
    """Return the page. Without `names` it shows counts and words: no path, no reason, no controls.

    `actions` are the last ones, from the verb ``history``; `has_token`: a token shows more.
    """
    says, *others = sayings(status, names=names)
    sections = [
        _banner(says, [each for each in others if each.kind != "ok"]),
        _totals(status),
        None if names else _unlock(has_token),
        _sources(status.sources, names=names),
        _in_flight(status, names=names),
        _failures(status, names=names),
        _waiting(status) if names else None,
        _everything(status) if names else None,
        _last_hour(status.daemon.bytes_by_minute),
        _actions(actions) if names else None,
        _question() if names else None,
    ]
    return _document(f"{says.word} · syncd", joined(*sections), names=names)


def render_locked() -> str:
    """Return the page for a reader who may not even see counts."""
    says = Says("rest", "locked", "This page opens with the token.")
    return _document("syncd", joined(_banner(says, []), _unlock(True)), names=False)


def _document(title: str, main: Html, *, names: bool) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href=_ICON),
        element("link", rel="stylesheet", href="page.css"),
        element("script", src="page.js", defer=True),
    )
    lock = element("button", "Lock", type="button", data_lock=True) if names else None
    again = element("a", "Look again", href="", class_="scriptless")
    body = element(
        "body",
        element(
            "header",
            element("h1", element("span", "", class_="mark", aria_hidden="true"), "syncd"),
            again,
            lock,
        ),
        element("main", main, tabindex=-1),
        # The outcome of a button and, for screen readers only, the state when it changes.
        element("p", role="status", id="told"),
        element("p", role="status", id="heard", class_="unseen"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _banner(says: Says, others: Sequence[Says]) -> Html:
    return element(
        "section",
        _sign(says.kind),
        element(
            "div",
            element("p", says.word, class_="word"),
            element("p", _with_times(says.sentence), id="says"),
            *(element("p", _with_times(each.sentence)) for each in others[:_MOST_OTHERS]),
        ),
        class_="says",
        data_kind=says.kind,
        data_key="says",
        aria_label="How things are",
    )


def _totals(status: Status) -> Html:
    files = sum(source.files.recorded for source in status.sources)
    facts = [
        (
            f"{files_words(files)} stored",
            human(sum(source.bytes.recorded for source in status.sources)),
        ),
        ("sent so far", human(status.totals["bytes_sent"])),
        ("not sent again", human(status.totals["bytes_saved"])),
        ("requests so far", f"{status.totals['requests']:,}"),
    ]
    tiles = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element("dl", *tiles, class_="tiles", data_key="tiles")


def _sign(kind: str) -> Html:
    path = element("path", d=_SIGNS[kind])
    return element("svg", path, viewBox="0 0 24 24", class_="sign", aria_hidden="true")


def _unlock(has_token: bool) -> Html:
    if not has_token:
        told = "Names, reasons and buttons are shown to those who have a token: set http.token_file."
        return element("p", told, class_="note", data_key="unlock")
    label = element("label", "Names, reasons and buttons need the token", for_="token")
    field = element("input", id="token", type="password", autocomplete="off", required=True)
    send = element("button", "Show", type="submit")
    told = "This page keeps it in its memory, and forgets it when you leave or reload."
    return joined(
        element("p", "To show more with the token, the page needs its script.", class_="note scriptless"),
        element(
            "form",
            label,
            element("div", field, send, class_="row"),
            element("p", told, class_="note"),
            id="unlock",
            class_="card",
            hidden=True,
            data_key="unlock",
        ),
    )


# ---- sources --------------------------------------------------------------------------------------------


def _sources(sources: Sequence[SourceReport], *, names: bool) -> Html:
    cards = [_source(source, names=names) for source in sources]
    return _section("sources", "Sources", element("div", *cards, class_="cards"))


def _source(source: SourceReport, *, names: bool) -> Html:
    kind = kind_of(source)
    counts = [
        ("stored", source.files.recorded),
        ("pending", source.files.pending),
        ("uploading", source.files.in_flight),
        ("failed", source.files.failed),
    ]
    figures = [
        element("div", element("dt", name), element("dd", f"{count:,}"), class_=name if count else "zero")
        for name, count in counts
    ]
    scanned = joined("last scan ", _time(source.last_scan)) if source.last_scan else "not scanned yet"
    if source.live is not None and source.live.scanning:
        scanned = joined("scanning")
    return element(
        "article",
        element(
            "h3",
            element("bdi", source.name),
            element("span", _sign(kind), source.word, class_="pill", data_kind=kind),
        ),
        element("p", element("bdi", source.path), " → ", source.store, class_="path")
        if names
        else element("p", "→ ", source.store, class_="path"),
        element("dl", *figures, class_="figures"),
        element("p", human(source.bytes.recorded), ", ", scanned, class_="note"),
        *(element("p", _with_times(line), class_="warning") for line in (_remarks(source) if names else ())),
        _source_buttons(source) if names else None,
        class_="card",
        data_key=f"source {source.name}",
    )


def _remarks(source: SourceReport) -> Iterator[str]:
    live = source.live or LiveSource()
    yield from (f"{line[0].upper()}{line[1:]}" for line in what_waits(source))
    if source.unlike:
        yield source.unlike
    if source.last_scan_unseen and not live.unreadable:
        yield f"Not everything could be scanned: {source.last_scan_unseen}"
    yield from (f"Cannot be read: {line}" for line in live.unreadable)
    yield from (f"Out of sight: {line}" for line in live.hidden)
    yield from (f"Never quiet: {path}" for path in live.never_quiet)


def _source_buttons(source: SourceReport) -> Html:
    name = {"name": f"source:{source.name}"}
    by_hand = bool(source.paused)
    return element(
        "div",
        _button("Resume" if by_hand else "Pause", "resume" if by_hand else "pause", name, f" {source.name}"),
        _button("Send now", "flush", name | {"seconds": _FLUSH_SECONDS}, f" {source.name}"),
        _button("Scan now", "rescan", name, f" {source.name}"),
        class_="row",
    )


def _everything(status: Status) -> Html:
    """Return the controls for all sources, each store, the bandwidth and the configuration."""
    limit = status.daemon.bandwidth_limit
    told = f"Now it is {human(limit)}/s. " if limit else "Now there is no limit. "
    held = any(_is_held(status, store.name) for store in status.stores)
    stores = [store.name for store in status.stores] if len(status.stores) > 1 else []
    times = [element("option", words, value=seconds) for seconds, words in _TIMES.items()]
    return _section(
        "everything",
        "Everything",
        element(
            "form",
            element(
                "div",
                _button("Resume" if held else "Pause", "resume" if held else "pause", {}, " everything"),
                _button("Send now", "flush", {"seconds": _FLUSH_SECONDS}, " everything"),
                _button("Scan now", "rescan", {}, " everything"),
                _button("Read the configuration again", "reload", {}, ""),
                *(_store_button(status, name) for name in stores),
                class_="row",
            ),
            element("label", "Limit for sending", for_="rate"),
            element(
                "div",
                element("input", id="rate", type="text", autocomplete="off", aria_describedby="rates"),
                element("button", "Set", type="submit"),
                _button("No limit", "limit", {"rate": "off"}, " for sending"),
                _button("As configured", "limit", {"configured": True}, " limit for sending"),
                class_="row",
            ),
            element("p", told, _RATES, id="rates", class_="note"),
            element("label", "A pause of everything, and a limit, last", for_="for"),
            element("div", element("select", *times, id="for"), class_="row"),
            id="limit",
            class_="card",
        ),
    )


def _is_held(status: Status, store: str) -> bool:
    """Return whether the operator has paused the store."""
    held = status.daemon.stores_paused.get(store)
    return held is not None and held not in {each.trouble for each in status.stores}


def _store_button(status: Status, store: str) -> Html:
    held = _is_held(status, store)
    words = f"{'Resume' if held else 'Pause'} store {store}"
    return _button(words, "resume" if held else "pause", {"name": f"store:{store}"}, "")


def _button(words: str, verb: str, request: Mapping[str, Any], of: str) -> Html:
    """Return a button. `of` names its subject for screen readers."""
    told = joined(words, element("span", of, class_="unseen"))
    return element("button", told, type="button", data_verb=verb, data_request=json.dumps(request))


# ---- in flight, failures --------------------------------------------------------------------------------


def _in_flight(status: Status, *, names: bool) -> Html | None:
    if not status.in_flight:
        return None
    rows = [_flying(item, names=names) for item in status.in_flight[:_MOST_IN_FLIGHT]]
    more = len(status.in_flight) - len(rows)
    rows += [element("li", f"and {more:,} more", class_="note")] if more else []
    return _section("flying", "Uploading", element("ul", *rows, class_="card flying"))


def _flying(item: InFlight, *, names: bool) -> Html:
    name = item.path if names else f"a file of {item.source}"
    share = [f"{human(item.bytes_done)} of {human(item.bytes_total)}"]
    share += [f"{human(item.bytes_per_second)}/s"] if item.bytes_per_second else []
    share += [f"{human_seconds(item.seconds_left)} left"] if item.seconds_left is not None else []
    bar = element("progress", value=item.bytes_done, max=max(1, item.bytes_total), aria_label=name)
    where = element("span", f"{item.source} ", class_="source") if names else None
    return element(
        "li",
        element("p", where, element("bdi", name), class_="name"),
        bar,
        element("p", ", ".join(share), class_="note"),
        data_key=f"flying {item.source}/{item.path}" if names else None,
    )


def _failures(status: Status, *, names: bool) -> Html | None:
    count = sum(source.files.failed for source in status.sources)
    if not count:
        return None
    if not names:
        told = f"{files_words(count)} could not be sent. Enter the token to see which, and why."
        return _section("failures", "Failed", element("p", told, class_="card"))
    groups: dict[str, list[FailureReport]] = {}
    for failure in status.failures:
        groups.setdefault(reason(failure.error), []).append(failure)
    cards = [_group(why, files) for why, files in sorted(groups.items(), key=lambda each: -len(each[1]))]
    listed = len(status.failures)
    rest = element("p", f"The first {listed:,} of {count:,}.", class_="note") if listed < count else None
    return _section("failures", "Failed", *cards, rest)


def _group(why: str, files: Sequence[FailureReport]) -> Html:
    shown = [
        element(
            "li",
            element("span", f"{each.source} ", class_="source"),
            element("bdi", each.path),
            element("span", f" {count_words(each.attempts, 'attempt')}, again ", _again(each), class_="note"),
        )
        for each in files[:_MOST_NAMES]
    ]
    shown += [element("li", f"and {len(files) - len(shown):,} more")] if len(files) > len(shown) else []
    return element(
        "article",
        element("h3", why),
        _hint(files[0].error),
        element(
            "details",
            element("summary", files_words(len(files))),
            element("ul", *shown),
            open=len(files) <= 3,
        ),
        element(
            "div",
            _button("Retry now", "retry", {"error": why}, f" {files_words(len(files))}: {why}"),
            class_="row",
        ),
        class_="card failed",
        data_key=f"failed {why}",
    )


def _waiting(status: Status) -> Html | None:
    """Return the list of waiting files. It loads when opened: queues are long, the page is made often."""
    count = sum(source.files.pending + source.files.in_flight for source in status.sources)
    if not count:
        return None
    return _section(
        "waiting",
        "Waiting",
        element(
            "details",
            element("summary", f"{files_words(count)}: which, and why"),
            element("ul", data_own=True, data_list="pending", class_="waiting"),
            class_="card",
        ),
    )


def reason(error: str) -> str:
    """Return what the errors of many files share: the text before the number of the request."""
    return error.partition(" [request ")[0]


def _hint(error: str) -> Html | None:
    hint = error.partition(" [request ")[2].partition("]; ")[2]
    return element("p", hint, class_="note") if hint else None


def _again(failure: FailureReport) -> Html:
    return _time(failure.next_attempt) if failure.next_attempt else joined("when it changes")


# ---- what was ------------------------------------------------------------------------------------------


def _last_hour(minutes: Sequence[int]) -> Html:
    if not any(minutes):
        return _section(
            "hour", "Last hour", element("p", "Nothing was sent in the last hour.", class_="card")
        )
    most, total = max(minutes), sum(minutes)
    last = next(ago for ago, sent in enumerate(reversed(minutes)) if sent)
    when = "in this minute" if not last else f"{count_words(last, 'minute')} ago"
    told = f"{human(total)} in the last hour, at most {human(most)} in one minute; the last of it {when}."
    bars = [
        element("rect", x=at * 10 + 1, y=100 - height, width=8, height=height)
        for at, sent in enumerate(minutes)
        if sent
        for height in [max(2, round(100 * sent / most))]
    ]
    line = element("path", d=f"M0 100.5H{len(minutes) * 10}")
    box = f"0 0 {len(minutes) * 10} 101"
    chart = element("svg", *bars, line, viewBox=box, preserveAspectRatio="none", aria_hidden="true")
    axis = element(
        "p", element("span", "60 min ago"), element("span", "now"), class_="axis", aria_hidden="true"
    )
    return _section(
        "hour",
        "Last hour",
        element("figure", element("figcaption", told), chart, axis, class_="card chart"),
    )


def _actions(actions: Sequence[Mapping[str, Any]]) -> Html:
    if not actions:
        return _section("actions", "Last actions", element("p", "Nothing was done yet.", class_="card"))
    rows = [
        element(
            "li",
            _time(each["at"]),
            element("span", each["action"], class_="action", data_action=each["action"]),
            element(
                "span",
                element("span", f"{each['source']} ", class_="source"),
                element("bdi", each["path"]),
                element("span", f" {_detail(each)}", class_="note"),
                class_="name",
            ),
        )
        for each in actions[:MOST_ACTIONS]
    ]
    return _section("actions", "Last actions", element("ul", *rows, class_="card actions"))


def _detail(action: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, [human(action["bytes"]) if action["bytes"] else "", action["detail"]]))


def _question() -> Html:
    label = element("label", "A file's full path", for_="path")
    field = element("input", id="path", type="text", autocomplete="off", spellcheck="false", required=True)
    return _section(
        "question",
        "Ask about a file",
        element(
            "form",
            label,
            element("div", field, element("button", "Ask", type="submit"), class_="row"),
            element("div", id="answer", role="status", data_own=True),
            id="ask",
            class_="card",
        ),
    )


# ---- small things ---------------------------------------------------------------------------------------


def _section(key: str, title: str, *contents: Html | None) -> Html:
    heading = element("h2", title, id=f"{key}-title")
    return element("section", heading, *contents, aria_labelledby=f"{key}-title", data_key=key)


def _time(moment: str) -> Html:
    """Return the time in UTC; the script shows it in the reader's time zone."""
    return element("time", f"{moment[:16].replace('T', ' ')} UTC", datetime=moment)


def _with_times(text: str) -> Html:
    """Return a text with each time in an element of its own."""
    parts = re.split(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", text)
    return joined(*(_time(part) if at % 2 else part for at, part in enumerate(parts)))

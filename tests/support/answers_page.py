"""Makes docs/answers.md of the table: ``python -m tests.support.answers_page > docs/answers.md``."""

from __future__ import annotations

from collections.abc import Iterable

from syncd.core import errors
from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    QuotaExceeded,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.pipeline.queue import BREAKER_THRESHOLD
from syncd.storage.http.errors import CODES, DONE, OF_VERBS, STATUSES, VERBS, Answer, Refusal, refusal
from syncd.storage.retry import MAX_ANSWERED, MAX_IN_VAIN, UNANSWERED, Retries

TRIES = Retries().max_tries
HOURS = "then after hours, ever more rarely"
TWICE = f"content {MAX_ANSWERED} times in all; {HOURS}"
STATUS_ROWS = sorted({400, 402, 411, 416, 418, 505, 520, 524, *STATUSES})
NETWORK = {
    "a redirect (3xx)": "place",
    "200 with an error inside": "its code",
    "200 without what it should hold": "gateway",
    "a page of something in between": "gateway",
}
"""What has no status of its own, and what it means for every verb."""
NO_ANSWER = ("no connection", "lost before", "lost after", "slow")
"""What leaves a request without an answer: the store cannot be reached; the request is lost on its way there,
or, once the store has done it, the answer on its way back; neither comes for longer than we wait."""
MEANINGS: dict[str, tuple[str, str, str]] = {
    "done": ("nothing", "what was asked for is so", ""),
    "moment": (
        "nothing: the store is busy, the clock is wrong, the connection slow",
        "repeated in place; then the file waits, and the upload is kept",
        (
            f"{TRIES} times in place, then after 2 s to 5 min; content with breaks of up to an hour, and in "
            f"place only {MAX_ANSWERED} times in all but for 429 and 503"
        ),
    ),
    "gateway": (
        "nothing, or the file",
        (
            "repeated in place; content that was sent twice is looked for in the store; then a neutral "
            "question follows"
        ),
        (
            f"{MAX_ANSWERED} times in place where there is an answer, else {TRIES} times; if there is one, "
            f"and the store answers the question: {TWICE}"
        ),
    ),
    "failed": (
        "the upload, the file or the store",
        (
            "as *gateway*; if an upload meets it in two tries without a part in between, and the store "
            "answers the question, the upload is begun once more, without copies"
        ),
        f"{MAX_ANSWERED} times in place; {TWICE}",
    ),
    "content": (
        "this part, or this content",
        "sent again",
        TWICE,
    ),
    "gone": (
        "the upload",
        (
            "the object is looked for (by token, digest, or the ETag of the parts); if it is not there, the "
            "upload is begun once more"
        ),
        "once; then the file fails, and there is another upload after 6 hours and more",
    ),
    "parts": (
        "the upload",
        "copied parts are sent; if two tries meet it, the upload is begun once more, without copies",
        "as *gone*",
    ),
    "another": ("the file: its object is not the one that was meant", "it is looked at again", "like *file*"),
    "file": (
        "the file; of an upload, the upload: as *parts*",
        "the file fails, and `syncd status` shows why; others go on",
        f"after a minute; {HOURS}, or when it changes, or after `syncd retry`",
    ),
    "quota": (
        "puts",
        (
            f"the file waits; after {errors.QUOTA_FILES} different files no content is read, but for a "
            "probe after 1 min to 1 h; deletions go on, and uploads are kept"
        ),
        "like *file*",
    ),
    "keys": (
        "the keys, or the file",
        "a neutral question: if it fails, too, the store is paused (exit code 77); else like *file*",
        f"a probe every {errors.PAUSE_SECONDS:.0f} s",
    ),
    "place": (
        "the store, or the file",
        "as *keys* (exit code 69)",
        f"a probe every {errors.PAUSE_SECONDS:.0f} s",
    ),
}
"""What each word means: what is charged, what happens next, and how often."""


def word(found: Refusal | StoreError) -> str:
    """The word for what a refusal, or the error made of it, means."""
    kind = found.error if isinstance(found, Refusal) else type(found)
    if issubclass(kind, StoreFailed):
        return "failed"
    if issubclass(kind, StoreUnavailable):
        assert isinstance(found, Refusal | StoreUnavailable)
        return "gateway" if found.outcome_unknown else "moment"
    if issubclass(kind, AccessRefused):
        assert isinstance(found, Refusal | AccessRefused)
        return "keys" if found.credentials else "place"
    words: dict[type[StoreError], str] = {
        PartCorrupt: "content",
        UploadGone: "gone",
        PartsRefused: "parts",
        PreconditionFailed: "another",
        QuotaExceeded: "quota",
        StoreRefused: "file",
    }
    return words[kind]


def cell(verb: str, answer: Answer) -> str:
    """What `answer` to `verb` means: a code (with a status that says nothing), or a status without one."""
    if answer in DONE.get(verb, ()):
        return "done"
    if isinstance(answer, int):
        return word(refusal(verb, answer, ""))
    return word(refusal(verb, 400, answer))


def unanswered(verb: str, what: str) -> str:
    """What follows when one of `NO_ANSWER` happens to `verb`."""
    manner = UNANSWERED[verb]
    if what == "no connection":
        return "again"
    if not manner.repeats:
        return "look first"
    return "again, then look" if manner.looks_after else "again"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _listed(names: Iterable[str]) -> str:
    """Like: put, copy or delete."""
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _by_meaning() -> Iterable[tuple[str, str]]:
    for meaning in MEANINGS:
        codes = [f"`{code}`" for code, found in CODES.items() if word(found) == meaning]
        if codes:
            yield f"*{meaning}*", ", ".join(codes)


def _exceptions() -> Iterable[tuple[str, str, str]]:
    for verbs, answers, found in OF_VERBS:
        named = ", ".join(sorted(f"`{answer}`" for answer in answers))
        yield ", ".join(verb for verb in VERBS if verb in verbs), named, f"*{word(found)}*"


def page() -> str:
    """The whole page."""
    lines = [
        "# What answers of a store mean",
        "",
        "Made by `python -m tests.support.answers_page` of the table in `syncd/storage/http/errors.py`, for",
        "S3 and BOS alike. The code of an answer decides before its status does. A fault is charged to the",
        "smallest thing that has it: a part, an upload, a file, puts, the keys, the store.",
        "",
        "## The words",
        "",
        *_table(
            ("word", "what is charged", "what happens next", "how often"),
            ((f"*{name}*", *texts) for name, texts in MEANINGS.items()),
        ),
        "A store is paused if a neutral question (one byte of an object that is not there) fails, too, or if",
        f"{BREAKER_THRESHOLD} different files fail in the same way and nothing succeeds in between. Probes",
        "are made with files chosen by chance while the store answers the question; once one succeeds,",
        "it takes eight times as many failures to pause the store again, until the question fails.",
        "[How often content is sent](reliability.md#how-often-content-is-sent) says what counts as twice.",
        "",
        "An upload survives *moment*, *gateway*, *quota*, *keys* and *place*, however often it meets them. A",
        "copy inside the store is only a shortcut: whatever it meets, the content is sent.",
        "",
        "## Answers without a code",
        "",
        *_table(
            ("answer", *VERBS),
            ((str(status), *(cell(verb, status) for verb in VERBS)) for status in STATUS_ROWS),
        ),
        *_table(("answer", "every verb"), NETWORK.items()),
        "## No answer",
        "",
        "Whether the request was lost on its way or the answer on its way back cannot be told, so what",
        f"follows suits both. *again*: repeated in place, {TRIES} times in all, or {MAX_IN_VAIN} times where",
        "nothing comes back for long, and once while nothing has come back since; then the file waits. If a",
        "neutral question is not answered, either, the store is paused.",
        "*then look*: after two, the store is asked whether the object or the part is there.",
        "*look first*: the file is tried again, and looks for the upload in the store's list before it",
        "begins one. A repeated complete may meet *gone*: then the object is looked for. What an unanswered",
        f"{_listed(verb for verb in VERBS if UNANSWERED[verb].unsettled)} may yet do is remembered for a",
        "quarter of an hour; then the object is looked at.",
        "",
        *_table(
            ("what", *VERBS),
            ((what, *(unanswered(verb, what) for verb in VERBS)) for what in NO_ANSWER),
        ),
        "## Codes",
        "",
        "Any other code with `Digest` in it is *content*, any with `Quota` in it is *quota*; the rest goes",
        "by its status. 409 with a code that is not here is *file*.",
        "",
        *_table(("meaning", "codes"), _by_meaning()),
        "Some mean something else to some verbs:",
        "",
        *_table(("verbs", "answers", "meaning"), _exceptions()),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")

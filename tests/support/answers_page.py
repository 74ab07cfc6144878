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
HOURS = "then after hours, less and less often"
TWICE = f"content is sent {MAX_ANSWERED} times; {HOURS}"
STATUS_ROWS = sorted({400, 402, 411, 416, 418, 505, 520, 524, *STATUSES})
NETWORK = {
    "a redirect (3xx)": "place",
    "200 with an error inside": "its code",
    "200 without the expected answer": "gateway",
    "a page of a gateway or proxy": "gateway",
}
"""What has no status of its own, and what it means for every verb."""
NO_ANSWER = ("no connection", "lost before", "lost after", "slow")
"""What leaves a request without an answer: the store cannot be reached; the request is lost on its way there,
or, once the store has done it, the answer on its way back; neither comes for longer than we wait."""
MEANINGS: dict[str, tuple[str, str, str]] = {
    "done": ("nothing", "the request has its effect", ""),
    "moment": (
        "nothing: the store is busy, the clock is wrong, the connection slow",
        "the request is repeated at once; then the file waits, and the upload keeps its parts",
        (
            f"{TRIES} requests at once, then after 2 s to 5 min; content with pauses of up to an hour, and "
            f"only {MAX_ANSWERED} times at once, except for 429 and 503"
        ),
    ),
    "gateway": (
        "nothing, or the file",
        (
            "the request is repeated at once; after content was sent twice, syncd asks the store for the "
            "object; then a test request follows"
        ),
        (
            f"{MAX_ANSWERED} requests at once if there is an answer, else {TRIES}; if there is an answer, "
            f"and the store also answers the test request: {TWICE}"
        ),
    ),
    "failed": (
        "the upload, the file or the store",
        (
            "as *gateway*; if an upload gets it in two attempts without a part in between, and the store "
            "answers the test request, syncd begins another upload, without copies"
        ),
        f"{MAX_ANSWERED} requests at once; {TWICE}",
    ),
    "content": (
        "this part, or this content",
        "the content is sent again",
        TWICE,
    ),
    "gone": (
        "the upload",
        (
            "syncd looks for the object (by token, digest, or the ETag of the parts); if it is not there, "
            "syncd begins another upload"
        ),
        "once; then the file fails, and the next upload follows after 6 hours or more",
    ),
    "parts": (
        "the upload",
        "copied parts are sent; after two such attempts, syncd begins another upload, without copies",
        "as *gone*",
    ),
    "another": (
        "the file: its object is not the one that was meant",
        "syncd looks at the object again",
        "like *file*",
    ),
    "file": (
        "the file; in an upload, the upload: as *parts*",
        "the file fails, and `syncd status` shows why; other files continue",
        f"after a minute; {HOURS}, or when the file changes, or after `syncd retry`",
    ),
    "quota": (
        "puts",
        (
            f"the file waits; after {errors.QUOTA_FILES} different files, syncd sends one file as a probe "
            "after 1 min to 1 h, and no others; deletions continue, and uploads keep their parts"
        ),
        "like *file*",
    ),
    "keys": (
        "the keys, or the file",
        "a test request: if it fails, too, the store is paused (exit code 77); else like *file*",
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
        "What syncd does when a store answers with an error, for S3 and BOS alike. The code of an answer",
        "decides; without a known code, the status does. syncd charges a fault to the smallest thing that",
        "has it: a part, an upload, a file, puts, the keys, the store.",
        "",
        "`python -m tests.support.answers_page` makes this page from the table in",
        "`syncd/storage/http/errors.py`.",
        "",
        "## The words",
        "",
        *_table(
            ("word", "what is charged", "what happens next", "how often"),
            ((f"*{name}*", *texts) for name, texts in MEANINGS.items()),
        ),
        "A *test request* asks for one byte of an object that does not exist. A store is paused if the test",
        f"request fails, too, or if {BREAKER_THRESHOLD} different files fail in the same way and nothing",
        "succeeds in between. A *probe* is a file that syncd sends to a paused store. While the store",
        "answers test requests, syncd chooses that file at random. Once a probe succeeds, it takes eight",
        "times as many failures to pause the store again, until a test request fails.",
        "[How often content is sent](reliability.md#how-often-content-is-sent) has the details.",
        "",
        "*moment*, *gateway*, *quota*, *keys* and *place* never end an upload, however often they occur. A",
        "copy inside the store is only a shortcut: if it fails, the content is sent.",
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
        "Either the request or its answer was lost, and syncd cannot know which. So it does what is right in",
        "both cases:",
        "",
        f"- *again*: the request is sent up to {TRIES} times, or {MAX_IN_VAIN} times if no answer comes for",
        "  long, or once while the store has not answered since; then the file waits. If a test request is",
        "  not answered, either, the store is paused.",
        "- *then look*: after two requests, syncd asks the store whether it has the object or the part.",
        "- *look first*: the file is tried again. Before syncd begins an upload, it looks for it in the",
        "  store's list.",
        "",
        "The answer to a repeated complete may be *gone*: syncd then looks for the object. An unanswered",
        f"{_listed(verb for verb in VERBS if UNANSWERED[verb].unsettled)} may take effect later, so syncd",
        "remembers it for a quarter of an hour, and then looks at the object.",
        "",
        *_table(
            ("what", *VERBS),
            ((what, *(unanswered(verb, what) for verb in VERBS)) for what in NO_ANSWER),
        ),
        "## Codes",
        "",
        "Any other code that contains `Digest` is *content*, and one that contains `Quota` is *quota*. For",
        "all others the status decides. 409 with a code that is not listed here is *file*.",
        "",
        *_table(("meaning", "codes"), _by_meaning()),
        "Some answers mean something else for some verbs:",
        "",
        *_table(("verbs", "answers", "meaning"), _exceptions()),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")

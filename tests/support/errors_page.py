"""Makes docs/errors.md of the source: ``python -m tests.support.errors_page > docs/errors.md``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from syncd.core import errors

PRODUCT = Path(__file__).resolve().parents[2] / "syncd"
MAKERS = {"Refusal": 1, "keys": 0, "place": 0, "quota": 0, "later": 0, "failed": 0}
"""What makes an error of an answer, in `syncd.storage.http.errors`; and which argument is the sentence."""
KINDS = {
    "Store": "A store",
    "Access": "A store",
    "Part": "A store",
    "Upload": "A store",
    "Object": "A store",
    "Quota": "A store",
    "Precondition": "A store",
    "File": "A file",
    "Root": "A file",
    "Key": "A file",
    "Checkpoint": "A file",
    "PutsWait": "A file",
    "TooYoung": "A file",
    "State": "The state and the daemon",
}
HEAD = """# Every error in words

What stands in braces is filled in. A line of the log or of a command begins with the file or store that it is
about; after the sentence comes what to do, where you can do something. [answers.md](answers.md) says what
syncd does by itself. Mistakes in the configuration say file, line, key, what was found and what was expected.
This page is made by `python -m tests.support.errors_page`.
"""


class Sentence(NamedTuple):
    """One error: what it says, and what to do."""

    kind: str
    text: str
    hint: str


def sentences() -> list[Sentence]:
    """All that are written in the source, without repetition, in order."""
    found = {each for path in sorted(PRODUCT.rglob("*.py")) for each in _in(path)}
    return sorted(found)


def _in(path: Path) -> Iterator[Sentence]:
    names = {name: 0 for name, kind in vars(errors).items() if isinstance(kind, type)}
    names = {name: 0 for name in names if issubclass(getattr(errors, name), errors.SyncdError)}
    if path.match("storage/http/errors.py"):
        names |= MAKERS
    module = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for call in ast.walk(module):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in names:
            continue
        place = names[call.func.id]
        given = [constants.get(each.id, each) if isinstance(each, ast.Name) else each for each in call.args]
        text = _words(given[place]) if len(given) > place else ""
        hints = [keyword.value for keyword in call.keywords if keyword.arg == "hint"] + given[place + 1 :]
        hint = next((words for each in hints if (words := _words(each))), "")
        kind = next((title for start, title in KINDS.items() if call.func.id.startswith(start)), "")
        if call.func.id in MAKERS:
            kind = "A store"
        if text.strip() and kind:
            yield Sentence(kind, text, hint)


def _words(node: ast.expr) -> str:
    """The text of a literal, with the names of what is filled in; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return ""
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else "{" + _name(part) + "}" for part in node.values
    )


def _name(part: ast.expr) -> str:
    names = [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]
    attributes = [node.attr for node in ast.walk(part) if isinstance(node, ast.Attribute)]
    return (attributes or names or ["..."])[0].lstrip("_").lower()


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    found = sentences()
    for title in dict.fromkeys(KINDS.values()):
        lines += [f"## {title}\n", "| what it says | what to do |", "|---|---|"]
        lines += [f"| {_cell(each.text)} | {_cell(each.hint)} |" for each in found if each.kind == title]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")

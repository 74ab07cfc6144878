"""Makes docs/errors.md of the source: ``python -m tests.support.errors_page > docs/errors.md``."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from syncd.core import errors
from syncd.storage.dir import files

PRODUCT = Path(__file__).resolve().parents[2] / "syncd"
_REPEATS = "nothing: syncd repeats the request; if that does not help, it tries the file again later"
_LOOKS = "nothing: syncd looks at the file again soon"
_BEGINS = "nothing: syncd starts the upload again; if that fails too, `syncd status` shows the file"
BY_ITSELF: dict[type[BaseException], str] = {
    errors.StoreUnavailable: _REPEATS,
    errors.PartCorrupt: "nothing: syncd tries again; if the error persists, check network and memory",
    errors.PartsRefused: _BEGINS,
    errors.UploadGone: _BEGINS,
    errors.ObjectSpoiled: _BEGINS,
    errors.PreconditionFailed: "nothing: syncd looks at the object again",
    errors.FileChanged: _LOOKS,
    errors.FileVanished: _LOOKS,
    errors.KeyBusy: _LOOKS,
    errors.CheckpointGone: _LOOKS,
    errors.PutsWait: "nothing: the file waits, and is sent later",
    errors.FilePaused: "`syncd resume`",
    errors.RootChanged: "mount or create it; or accept another directory: `syncd sync --accept-root SOURCE`",
}
"""What syncd does about an error by itself, by its class."""
MAKERS = {"Refusal": 1, "keys": 0, "place": 0, "quota": 0, "later": 0, "failed": 0}
"""What makes an error of an answer, in `syncd.storage.http.errors`; and which argument is the sentence."""
KINDS = {
    "Store": "A store",
    "Access": "A store",
    "Connection": "A store",
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
    "NoRoom": "A file",
    "TooYoung": "A file",
    "State": "The state and the daemon",
    **dict.fromkeys(MAKERS, "A store"),
}
HEAD = """# Error messages

syncd fills in the words in braces. In the log and in the output of commands, a message begins with the file
or store that it is about, and ends with what to do. If there is nothing to do, syncd continues by itself
([answers.md](answers.md)). Messages about the configuration give file, line, key, what was found and what
was expected. `python -m tests.support.errors_page` makes this page from the source.
"""


class Sentence(NamedTuple):
    """One error: what it says, and what to do."""

    kind: str
    text: str
    hint: str


def sentences() -> list[Sentence]:
    """All that are written in the source, without repetition, in order."""
    found = {each for path in sorted(PRODUCT.rglob("*.py")) for each in _in(path)}
    cannot = "cannot {doing}: "
    shut = {number: errors.OS_REMEDIES[number] for number in files.SHUT}
    for number, hint in {**errors.OS_REMEDIES, **files.NOT_THIS_ONE, **shut}.items():
        found.add(Sentence("A store", cannot + os.strerror(number), hint))
        if number in errors.OS_REMEDIES:
            found.add(Sentence("A file", os.strerror(number), errors.OS_REMEDIES[number]))
    return sorted(found)


def _in(path: Path) -> Iterator[Sentence]:
    names = {name: 0 for name, kind in vars(errors).items() if isinstance(kind, type)}
    names = {name: 0 for name in names if issubclass(getattr(errors, name), errors.SyncdError)}
    if path.match("storage/http/errors.py"):
        names |= MAKERS
    name = ".".join(path.relative_to(PRODUCT.parent).with_suffix("").parts)
    module = import_module(name)
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in names:
            continue
        place = names[call.func.id]
        text = _words(call.args[place], module) if len(call.args) > place else ""
        hints = [keyword.value for keyword in call.keywords if keyword.arg == "hint"] + call.args[place + 1 :]
        hint = next((words for each in hints if (words := _words(each, module))), "")
        error = ast.unparse(call.args[0]) if call.func.id == "Refusal" else call.func.id
        kind = next((title for start, title in KINDS.items() if error.startswith(start)), "")
        if text.strip() and kind:
            yield _sentence(kind, error, text, hint)


def _sentence(kind: str, error: str, text: str, hint: str) -> Sentence:
    """What the sentence itself says to do stands behind a semicolon, or else a colon."""
    hint = hint or _by_itself(error)
    for mark in ("; ", ": "):
        said, found, remedy = text.rpartition(mark)
        if not hint and found:
            text, hint = (text, "as it says") if remedy.startswith("{") else (said, remedy)
    return Sentence(kind, text, hint)


def _by_itself(error: str) -> str:
    """What syncd does, where the user has to do nothing."""
    name = {"later": "StoreUnavailable", "failed": "StoreFailed"}.get(error, error)
    found = (BY_ITSELF.get(base) for base in getattr(errors, name, errors.SyncdError).__mro__)
    return next((words for words in found if words), "")


def _words(node: ast.expr, module: ModuleType) -> str:
    """The text of a literal or constant, with the names of what is filled in; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        found = getattr(module, node.id, "")
        return found if isinstance(found, str) else ""
    if isinstance(node, ast.Call) and node.args:  # what is looked up in a table, and what else holds
        return _words(node.args[-1], module)
    if isinstance(node, ast.IfExp):
        return " / ".join(_words(each, module) for each in (node.orelse, node.body))
    if isinstance(node, ast.BoolOp):
        return next((words for each in node.values if (words := _words(each, module))), "")
    if not isinstance(node, ast.JoinedStr):
        return ""
    return "".join(
        str(part.value)
        if isinstance(part, ast.Constant)
        else _words(getattr(part, "value", part), module) or "{" + _name(part) + "}"
        for part in node.values
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

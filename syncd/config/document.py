"""YAML text -> plain values that remember where they were written; ``${NAME}`` comes from the environment.

Stricter than YAML itself where a file of settings profits: a key twice is a mistake, there is one document,
and tags make nothing. Anchors, aliases and merge keys work.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import yaml

from syncd.config.nodes import MAX_DEPTH, TAG_PREFIX, Node, compose, fatal
from syncd.core.errors import Problem

Path = tuple[str | int, ...]
"""Keys and list positions from the root of the document."""

MAX_VALUES = 20_000
"""After aliases are followed: a few lines of aliases can stand for billions of values."""

_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_KINDS = {
    TAG_PREFIX + "str": "text",
    TAG_PREFIX + "int": "number",
    TAG_PREFIX + "float": "number",
    TAG_PREFIX + "bool": "truth value",
    TAG_PREFIX + "null": "nothing",
    TAG_PREFIX + "timestamp": "date",
}
_COLLECTION_TAGS = ("", "!", TAG_PREFIX + "map", TAG_PREFIX + "seq")
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}]*)(?P<close>\})?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff`]")


class Expanded(str):
    """Text that came, in whole or in part, from the environment, where nothing but text exists."""

    __slots__ = ()


class Unusable:
    """A value of a kind that no setting has: a date, binary data, something with a tag."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where and how a value was written."""

    line: int
    """Of its key, from 1."""
    kind: str
    """``text``, ``number``, ``truth value``, ``nothing``, ``date``, ``list``, ``mapping``, or a phrase."""
    written: str = field(default="", repr=False)
    """A scalar's text before expansion."""
    expanded: bool = False
    lines: int = 1


@dataclass(slots=True)
class Document:
    """A whole configuration file as plain values, and what is needed to speak about them."""

    file: str
    secret_keys: Collection[str]
    value: object = field(default=None, repr=False)
    marks: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoiled: set[Path] = field(default_factory=set)
    """Values that could not be expanded: reported already, not worth a second word."""

    def where(self, path: Path) -> str:
        """``file:line`` of `path`, or of the nearest thing around it that was written."""
        while path and path not in self.marks:
            path = path[:-1]
        mark = self.marks.get(path)
        return f"{self.file}:{mark.line}" if mark else self.file

    def found(self, path: Path) -> str:
        """The value at `path` in words: as written, never expanded, and never a secret."""
        mark = self.marks.get(path)
        if mark is None or mark.kind not in ("text", "number", "truth value", "date", "nothing"):
            return self.kind(path)
        if mark.kind == "nothing":
            return f"{quoted(mark.written)}, which YAML reads as nothing" if mark.written else "nothing"
        if self._is_secret(path, mark):
            return f"{self.kind(path)} that is not shown"
        if mark.lines > 1:
            return f"{self.kind(path)} over {mark.lines} lines"
        shown = quoted(mark.written) if mark.written else "empty text"
        if mark.expanded:
            return f"{shown} (its value is not shown)"
        return shown if mark.kind == "text" else f"the {mark.kind} {shown}"

    def kind(self, path: Path) -> str:
        """What kind of value is at `path`, without showing it."""
        mark = self.marks.get(path)
        if mark is None or mark.kind in ("nothing", "text"):
            return mark.kind if mark else "nothing"
        return f"a {mark.kind}"

    def report(self, path: Path, *, expected: str, found: str = "") -> None:
        """Add a problem with the value at `path`; `found` is by default the value itself."""
        problem = Problem(self.where(path), dotted(path), found or self.found(path), expected)
        if problem not in self.problems:
            self.problems.append(problem)

    def label(self, path: Path) -> str:
        """``file:line: key``, for a warning."""
        return f"{self.where(path)}: {dotted(path)}"

    def forgive(self, keys: Collection[str]) -> None:
        """Take back what was said about variables that are not set, for values of these keys."""
        forgiven = {dotted(path) for path in self.spoiled if path[-1] in keys}
        self.problems = [problem for problem in self.problems if problem.key not in forgiven]

    def is_spoiled(self, path: Path) -> bool:
        """Whether the value at `path`, or anything inside it, could not be expanded."""
        return any(spoiled[: len(path)] == path for spoiled in self.spoiled)

    def _is_secret(self, path: Path, mark: Mark) -> bool:
        if mark.expanded and _REFERENCE.fullmatch(mark.written):
            return False  # nothing but the name of a variable
        return "@" in mark.written or any(step in self.secret_keys for step in path)


def quoted(text: str, longest: int = 80) -> str:
    """`text` in backquotes on one line, cut after `longest` characters."""
    text = _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return f"`{text[:longest]}…`" if len(text) > longest else f"`{text}`"


def dotted(path: Path) -> str:
    """A path as people write it: ``stores.nas.path``, ``sources[0].path``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{quoted(step)[1:-1]}"
    return text.removeprefix(".")


def read(
    data: bytes, file: str, environ: Mapping[str, str], *, secret_keys: Collection[str] = ()
) -> Document:
    """The document in `data`. Mistakes that leave the rest readable are in its `problems`.

    `secret_keys` are the names of keys whose values are never shown. Raises ConfigError, with one problem,
    when the file cannot be read at all.
    """
    document = Document(file, secret_keys)
    root = compose(data, file)
    if root is not None:
        document.value = _Builder(document, environ).value(root, (), root.line)
    return document


class _Builder:
    """Turns nodes into values, noting where each was written."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._values = 0

    def value(self, node: Node, path: Path, line: int) -> object:
        """The value of `node`; `line` is that of its key."""
        self._count(line, len(path))
        if node.kind == "scalar":
            return self._scalar(node, path, line)
        if node.tag not in _COLLECTION_TAGS:
            self._document.marks[path] = Mark(line, "value with a tag")
            return Unusable()
        self._document.marks[path] = Mark(line, node.kind)
        if node.kind == "list":
            return [self.value(item, (*path, index), item.line) for index, item in enumerate(node.items)]
        return {
            key.text: self.value(value, (*path, key.text), key.line)
            for key, value in self._pairs(node, path, 0).values()
        }

    def _pairs(self, node: Node, path: Path, depth: int) -> dict[str, tuple[Node, Node]]:
        """Keys and values of a mapping, merged ones included; explicit keys win over merged ones."""
        pairs: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key, value in zip(node.items[::2], node.items[1::2], strict=True):
            self._count(key.line, depth)
            if key.kind != "scalar":
                self._complain(path, key.line, found=f"a {key.kind} as a key", expected="text as a key")
            elif key.tag == TAG_PREFIX + "merge":
                merged += value.items if value.kind == "list" else [value]
            elif key.text in pairs:
                found = f"the key a second time (first on line {pairs[key.text][0].line})"
                self._complain((*path, key.text), key.line, found=found, expected="each key once")
            else:
                pairs[key.text] = (key, value)
        for origin in merged:
            self._count(origin.line, depth)
            if origin.kind != "mapping":
                self._complain(path, origin.line, found=f"a {origin.kind}", expected="a mapping after `<<`")
                continue
            for name, pair in self._pairs(origin, path, depth + 1).items():
                pairs.setdefault(name, pair)
        return pairs

    def _scalar(self, node: Node, path: Path, line: int) -> object:
        kind = _KINDS.get(node.tag, "value with a tag")
        if kind == "text":
            return self._text(node, path, line)
        self._document.marks[path] = Mark(line, kind, node.text, lines=node.lines)
        if kind not in ("number", "truth value", "nothing"):
            return Unusable()
        try:
            value: object = _CONSTRUCTOR.construct_object(yaml.ScalarNode(node.tag, node.text))
        except (ArithmeticError, LookupError, ValueError):  # `!!int x`, or more digits than Python reads
            return Unusable()
        return value

    def _text(self, node: Node, path: Path, line: int) -> str:
        references = list(_REFERENCE.finditer(node.text))
        expanded = any(match["dollar"] is None for match in references)
        self._document.marks[path] = Mark(line, "text", node.text, expanded, node.lines)
        faults = [fault for match in references if (fault := self._fault(match))]
        for found, expected in faults:
            self._complain(path, line, found=found, expected=expected)
        if faults:
            self._document.spoiled.add(path)
            return ""
        text = _REFERENCE.sub(lambda match: match["dollar"] or self._environ[match["name"]], node.text)
        return Expanded(text) if expanded else text

    def _fault(self, match: re.Match[str]) -> tuple[str, str] | None:
        """What is wrong with a reference to the environment, as (found, expected)."""
        name = match["name"]
        if match["dollar"] or (match["close"] and name in self._environ):
            return None
        if not match["close"] or not _NAME.fullmatch(name):
            return "`${` without a name and `}` after it", "`${NAME}`, or `$$` for a dollar sign"
        found = f"`${{{name}}}`, which is not set"
        if name == "CREDENTIALS_DIRECTORY":
            return found, "a start by systemd with LoadCredential=, which sets it"
        return found, f"an environment variable `{name}` (a dollar sign itself is written `$$`)"

    def _count(self, line: int, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise fatal(
                f"{self._document.file}:{line}",
                found=f"aliases that make more than {MAX_VALUES} values or {MAX_DEPTH} levels",
                expected="a configuration, which is smaller",
            )

    def _complain(self, path: Path, line: int, *, found: str, expected: str) -> None:
        problem = Problem(f"{self._document.file}:{line}", dotted(path), found, expected)
        if problem not in self._document.problems:
            self._document.problems.append(problem)

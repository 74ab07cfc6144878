"""Turns YAML into plain values that remember their lines; ``${NAME}`` comes from the environment.

Stricter than YAML, to catch mistakes: keys and anchors must be unique, there is one document, and tags build
nothing. Anchors, aliases and merge keys work.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import ClassVar

import yaml
from msgspec import Struct, field

from syncd.core.errors import ConfigError, Problem
from syncd.core.model import Concealing
from syncd.core.paths import one_line

Path = tuple[str | int, ...]
"""Keys and list positions from the root of the document."""

MAX_DEPTH = 20
MAX_VALUES = 20_000
"""Both limits count expanded aliases: a few lines of aliases can mean billions of values."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    _TAG + "str": "text",
    _TAG + "int": "number",
    _TAG + "float": "number",
    _TAG + "bool": "truth value",
    _TAG + "null": "nothing",
    _TAG + "timestamp": "date",
}
_REFUSED_BY_COMPOSER = {
    "found undefined alias": ("an alias without its anchor", "`&name` before `*name`"),
    "but found another document": ("a second document", "one document in the file"),
    "second occurrence": ("an anchor a second time", "each `&name` once"),
}
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}]*)(?P<close>\})?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ODD_NUMBER = re.compile(r"[+-]?0[0-9bx].*|.*[:_].*")
"""To YAML, 010 is 8 and 1:30 is 90."""


class Expanded(str):
    """Text that came, in whole or in part, from the environment, which holds only text."""

    __slots__ = ()


class Unusable:
    """A value of a kind that no setting has: a date, binary data, something with a tag."""


class Mark(Concealing, frozen=True):
    """Where and how a value was written."""

    concealed: ClassVar[frozenset[str]] = frozenset({"written"})

    line: int
    """The line of its key, from 1."""
    kind: str
    """``text``, ``number``, ``truth value``, ``nothing``, ``date``, ``list``, ``mapping``, or a phrase."""
    written: str = ""
    """A scalar's text before expansion."""
    expanded: bool = False
    lines: int = 1


class Document(Struct):
    """A configuration file as plain values, with its problems and warnings."""

    file: str
    secret_keys: Collection[str]
    """The keys whose values are never shown."""
    value: object = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    spoiled: set[Path] = field(default_factory=set)
    """Values whose variables could not be expanded: already reported, so no check repeats it."""

    def __repr__(self) -> str:
        return f"Document({self.file})"  # some of the values are secrets

    def found(self, path: Path) -> str:
        """Return the value at `path` in words: as written, never expanded, and never a secret."""
        mark = self.marks.get(path)
        if mark is None or mark.kind not in _KINDS.values():
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
        if mark.kind == "number" and _ODD_NUMBER.fullmatch(mark.written):
            shown += ", which YAML reads otherwise"
        return shown if mark.kind == "text" else f"the {mark.kind} {shown}"

    def kind(self, path: Path) -> str:
        """Return the kind of the value at `path`, without showing it."""
        mark = self.marks.get(path)
        if mark is None:
            return "nothing"
        return mark.kind if mark.kind in ("nothing", "text") else f"a {mark.kind}"

    def report(self, path: Path, *, expected: str, found: str = "", line: int = 0) -> None:
        """Add a problem with the value at `path`; `found` and `line` default to the value's."""
        where = f"{self.file}:{line}" if line else self.where(path)
        problem = Problem(where, dotted(path), found or self.found(path), expected)
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, path: Path, text: str) -> None:
        """Add a warning about the value at `path`; `text` continues a sentence that begins with it."""
        self.warnings.append(f"{self.where(path)}: {dotted(path)}: {self.found(path)} {text}")

    def forgive(self, keys: Collection[str]) -> None:
        """Drop the problems with unset variables in values of these keys."""
        forgiven = {dotted(path) for path in self.spoiled if path and path[-1] in keys}
        self.problems = [problem for problem in self.problems if problem.key not in forgiven]

    def is_spoiled(self, path: Path) -> bool:
        """Return whether the value at `path`, or anything in it, could not be expanded."""
        return any(spoiled[: len(path)] == path for spoiled in self.spoiled)

    def where(self, path: Path) -> str:
        """Return ``file:line`` of `path`, or of the nearest value around it."""
        while path and path not in self.marks:
            path = path[:-1]
        mark = self.marks.get(path)
        return f"{self.file}:{mark.line}" if mark else self.file

    def _is_secret(self, path: Path, mark: Mark) -> bool:
        if mark.expanded and _REFERENCE.fullmatch(mark.written):
            return False  # only the name of a variable
        return "@" in mark.written or any(step in self.secret_keys for step in path)


def quoted(text: str, longest: int = 80) -> str:
    """Return `text` in backquotes on one line, cut after `longest` characters."""
    text = one_line(text).replace("`", "\\x60")
    return f"`{text[:longest]}…`" if len(text) > longest else f"`{text}`"


def dotted(path: Path) -> str:
    """Return a path as in messages: ``stores.nas.path``, ``sources[0].path``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{quoted(step)[1:-1]}" for step in path)
    return text.removeprefix(".")


def read(
    data: bytes, file: str, environ: Mapping[str, str], *, secret_keys: Collection[str] = ()
) -> Document:
    """Return the document in `data`.

    Mistakes that leave the rest readable are in its `problems`. `secret_keys` names the keys whose values are
    never shown. Raises ConfigError, with one problem, if the file cannot be read at all.
    """
    document = Document(file, secret_keys)
    root = _compose(_decode(data, file), file)
    if root is not None:
        document.value = _Builder(document, environ).value(root, (), _line(root))
    return document


# ---- text to nodes --------------------------------------------------------------------------------------


def _compose(text: str, file: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    except RecursionError:  # PyYAML without libyaml, which has its own limit
        raise _too_much(file) from None
    finally:
        loader.dispose()


def _decode(data: bytes, file: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{data[error.start]:02x}, which is not UTF-8"
        raise _fatal(f"{file}:{line}", found, "a file in UTF-8") from None
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        column = odd.start() - text.rfind("\n", 0, odd.start())
        raise _fatal(
            f"{file}:{line}:{column}",
            f"the control character U+{ord(odd[0]):04X}",
            "text without control characters (write them as \\x.. in double quotes)",
        )
    return text


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    problem = error.problem or error.context or ""
    for beginning, (found, expected) in _REFUSED_BY_COMPOSER.items():
        if problem.startswith(beginning):
            return _fatal(where, found, expected)
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    expected = "valid YAML (quote text with special characters)"
    if "\t" in line:
        expected = "spaces instead of tabs"
    elif "${" in line and "{" in line.replace("${", ""):
        expected = "quotes around `${...}`, because it is inside `{...}`"
    return _fatal(where, f"a YAML syntax error: {problem}", expected)


def _too_much(where: str) -> ConfigError:
    found = f"more than {MAX_DEPTH} levels of nesting or {MAX_VALUES} values, with those of aliases"
    return _fatal(where, found, "a smaller configuration")


def _fatal(where: str, found: str, expected: str) -> ConfigError:
    return ConfigError([Problem(where, "", found, expected)])


# ---- nodes to values ------------------------------------------------------------------------------------


class _Builder:
    """Turns nodes into values, noting where each was written."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._constructor = yaml.constructor.SafeConstructor()
        self._values = 0

    def value(self, node: yaml.Node, path: Path, line: int) -> object:
        """Return the value of `node`; `line` is the line of its key."""
        self._count(line, len(path))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, line)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self._document.marks[path] = Mark(line, "value with a tag")
            return Unusable()
        self._document.marks[path] = Mark(line, _kind(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index), _line(item)) for index, item in enumerate(node.value)]
        pairs = self._pairs(node, path, 0).items()
        return {name: self.value(value, (*path, name), _line(key)) for name, (key, value) in pairs}

    def _pairs(self, node: yaml.Node, path: Path, depth: int) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return keys and values of a mapping, also merged ones; explicit keys win over those."""
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        report = self._document.report
        for key, value in node.value:
            self._count(_line(key), depth)
            if not isinstance(key, yaml.ScalarNode):
                found = f"a {_kind(key)} as a key"
                report(path, line=_line(key), found=found, expected="text as a key")
            elif key.tag == _TAG + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key.value in pairs:
                found = f"the key a second time (first on line {_line(pairs[key.value][0])})"
                report((*path, key.value), line=_line(key), found=found, expected="each key once")
            else:
                pairs[key.value] = (key, value)
        for origin in merged:
            self._count(_line(origin), depth)
            if isinstance(origin, yaml.MappingNode):
                for name, pair in self._pairs(origin, path, depth + 1).items():
                    pairs.setdefault(name, pair)
            else:
                found = f"a {_kind(origin)}"
                report(path, line=_line(origin), found=found, expected="a mapping after `<<`")
        return pairs

    def _scalar(self, node: yaml.ScalarNode, path: Path, line: int) -> object:
        kind = _KINDS.get(node.tag, "value with a tag")
        if kind == "text":
            return self._text(node, path, line)
        self._document.marks[path] = Mark(line, kind, node.value, lines=_lines(node))
        is_odd = kind == "number" and _ODD_NUMBER.fullmatch(node.value)
        if is_odd or kind not in ("number", "truth value", "nothing"):
            return Unusable()
        try:
            value: object = self._constructor.construct_object(node)
        except (ArithmeticError, LookupError, ValueError):  # `!!int x`, or more digits than Python reads
            return Unusable()
        return value

    def _text(self, node: yaml.ScalarNode, path: Path, line: int) -> str:
        references = list(_REFERENCE.finditer(node.value))
        expanded = any(match["dollar"] is None for match in references)
        self._document.marks[path] = Mark(line, "text", node.value, expanded, _lines(node))
        faults = [fault for match in references if (fault := self._fault(match))]
        for found, expected in faults:
            self._document.report(path, found=found, expected=expected)
        if faults:
            self._document.spoiled.add(path)
            return ""
        text = _REFERENCE.sub(lambda match: match["dollar"] or self._environ[match["name"]], node.value)
        return Expanded(text) if expanded else text

    def _fault(self, match: re.Match[str]) -> tuple[str, str] | None:
        """Return what is wrong with a reference to the environment, as (found, expected)."""
        name = match["name"]
        if match["dollar"] or (match["close"] and name in self._environ):
            return None
        if not match["close"] or not _NAME.fullmatch(name):
            return "`${` without a name and `}` after it", "`${NAME}`, or `$$` for a dollar sign"
        found = f"`${{{name}}}`, which is not set"
        if name == "CREDENTIALS_DIRECTORY":
            return found, "a start by systemd with LoadCredential=, which sets it"
        return found, f"an environment variable `{name}` (write `$$` for a dollar sign)"

    def _count(self, line: int, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise _too_much(f"{self._document.file}:{line}")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "scalar"
    return "mapping" if isinstance(node, yaml.MappingNode) else "list"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _lines(node: yaml.Node) -> int:
    """Return the lines that a scalar takes; a block scalar ends at the start of the next line."""
    lines = int(node.end_mark.line - node.start_mark.line)
    return lines if lines and node.end_mark.column == 0 else lines + 1

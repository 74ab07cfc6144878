"""YAML text -> a tree of nodes with line numbers, strictly and within bounds.

Built from the parser's events and without recursion, so that a hostile or broken file ends in one clear
problem. Tags and anchors are resolved here; what a value means is not (`syncd.config.document`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from syncd.core.errors import ConfigError, Problem

MAX_DEPTH = 20
TAG_PREFIX = "tag:yaml.org,2002:"

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.resolver.Resolver()


@dataclass(slots=True)
class Node:
    """A value as written. `items` holds a list's items, or a mapping's keys and values by turns."""

    kind: str
    """``scalar``, ``list`` or ``mapping``."""
    tag: str
    """Of a scalar always resolved; of the others only what was written."""
    line: int
    """From 1."""
    lines: int = 1
    text: str = field(default="", repr=False)
    items: list[Node] = field(default_factory=list, repr=False)
    unfinished: bool = False


def fatal(where: str, *, found: str, expected: str) -> ConfigError:
    """The error for a file that cannot be read any further."""
    return ConfigError([Problem(where, "", found=found, expected=expected)])


def compose(data: bytes, file: str) -> Node | None:
    """The one document in `data`, None when it holds nothing. Raises ConfigError with one problem."""
    text = _decode(data, file)
    composer = _Composer(file)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    return composer.root


def _decode(data: bytes, file: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise fatal(
            f"{file}:{line}",
            found=f"the byte 0x{data[error.start]:02x}, which is not UTF-8",
            expected="a file in UTF-8",
        ) from None
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        column = odd.start() - text.rfind("\n", 0, odd.start())
        raise fatal(
            f"{file}:{line}:{column}",
            found=f"the control character U+{ord(odd[0]):04X}",
            expected="text without control characters (in double quotes, \\x.. writes one)",
        )
    return text


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    expected = "valid YAML (text with special characters goes in quotes)"
    if "\t" in line:
        expected = "spaces instead of tabs"
    elif "${" in line and "{" in line.replace("${", ""):
        expected = "quotes around `${...}`, because it is inside `{...}`"
    return fatal(
        f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file,
        found=f"a YAML syntax error: {error.problem or error.context}",
        expected=expected,
    )


class _Composer:
    """Takes events one by one; `root` is the document."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self._file = file
        self._stack: list[Node] = []
        self._anchors: dict[str | None, Node] = {}

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop().unfinished = False
        elif isinstance(event, yaml.NodeEvent):
            self._place(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise fatal(self._where(event), found="a second document", expected="one document in the file")

    def _place(self, event: yaml.NodeEvent) -> None:
        node = self._alias(event) if isinstance(event, yaml.AliasEvent) else _node(event)
        self._anchors[event.anchor] = node  # None collects those without; never looked up
        if self._stack:
            self._stack[-1].items.append(node)
        self.root = self.root or node
        if isinstance(event, yaml.CollectionStartEvent):
            self._stack.append(node)
            if len(self._stack) > MAX_DEPTH:
                raise fatal(
                    self._where(event),
                    found=f"more than {MAX_DEPTH} levels of nesting",
                    expected="a configuration, which is flatter",
                )

    def _alias(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise fatal(
                self._where(event), found="an alias without its anchor", expected="`&name` before `*name`"
            )
        if node.unfinished:
            raise fatal(
                self._where(event), found="an alias inside its own anchor", expected="values that end"
            )
        return node

    def _where(self, event: yaml.Event) -> str:
        mark = event.start_mark
        return f"{self._file}:{mark.line + 1}:{mark.column + 1}" if mark else self._file


def _node(event: yaml.NodeEvent) -> Node:
    start, end = event.start_mark, event.end_mark
    line = start.line + 1 if start else 1
    if isinstance(event, yaml.ScalarEvent):
        tag = event.tag
        if tag is None or tag == "!":
            tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        lines = end.line - start.line + 1 if start and end else 1
        if lines > 1 and end and end.column == 0:  # a block scalar ends at the start of the line after it
            lines -= 1
        return Node("scalar", tag, line, lines, event.value)
    kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
    return Node(kind, getattr(event, "tag", None) or "", line, unfinished=True)

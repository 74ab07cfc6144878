"""Rules: which paths of a source are wanted, in gitignore patterns.

``exclude`` follows git's order: from the top directory downward, at each level the last pattern that matches
wins, and everything below an excluded directory is excluded. ``include`` cuts off no directory: the last of
all patterns that match the file or a directory above it decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import fields, replace

from syncd.core.model import Properties, Source
from syncd.core.paths import printable

TEMPORARY = (
    "*.tmp", "*.part", "*.partial", "*.filepart", "*.crdownload", ".~tmp~/", ".rsync-partial/",
    ".syncthing.*.tmp", ".goutputstream-*", ".*.sw[a-p]", ".*.kate-swp", ".#*", "\\#*#", "~$*", ".~lock.*#",
    ".fuse_hidden*", ".nfs0*", ".DS_Store", "Thumbs.db",
)  # fmt: skip
"""Names that editors, browsers and copiers give to unfinished or private files. They count as if they stood
before the patterns of `exclude`, so that a negation there brings one back."""

_REMEMBERED_DIRECTORIES = 10_000
"""How many directories each list remembers; a full memory is cleared."""

_Search = Callable[[str], object]


class _Pattern:
    """One gitignore pattern, which is matched against one entry at a time.

    It does not cover what is below a matching entry: ``!keep`` matches ``keep``, not the entries in it. The
    last segments of an entry are compared with the tail of the pattern, after its last ``**``. In most
    patterns the tail is everything; without any ``**`` the entry must have as many segments.

    It reads patterns as git does (https://git-scm.com/docs/gitignore), but by characters where git goes by
    bytes: a ``?`` stands for an ``é``.
    """

    __slots__ = ("_directories_only", "_exact", "_tail", "_tail_length", "_whole", "negated", "written")

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        self.written = pattern
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        text = _checked(pattern)
        self.negated = text.startswith("!")
        text = text.removeprefix("!")
        self._directories_only = text.endswith("/")
        segments = [
            "**" if len(each) > 1 and not each.strip("*") else each for each in text.strip("/").split("/")
        ]
        if "/" not in text.removesuffix("/"):
            # Without a slash it matches names at any depth; there "**" is a plain asterisk.
            segments = ["**", "*" if segments == ["**"] else segments[0]]
        wild = [index for index, segment in enumerate(segments) if segment == "**"]
        tail = segments[wild[-1] + 1 :] if wild else segments
        self._exact = not wild
        self._tail_length = len(tail)
        self._tail = _search(tail, flags) if tail else None
        # With no "**", or only a leading one, the tail decides alone.
        self._whole = None if tail and wild in ([], [0]) else _search(segments, flags)

    def matches(self, path: str, name: str, depth: int, is_directory: bool) -> bool:
        """Return whether it matches this entry. `name` is the last of the `depth` segments of `path`."""
        if self._directories_only and not is_directory:
            return False
        if self._tail is not None:
            surplus = depth - self._tail_length
            if surplus < 0 or (surplus > 0 and self._exact):
                return False
            end = name if self._tail_length == 1 else path.split("/", surplus)[-1]
            if self._tail(end) is None:
                return False
        return self._whole is None or self._whole(path) is not None


def _checked(pattern: str) -> str:
    """Return the pattern without insignificant blanks. Raises ValueError if it can never match."""
    line = pattern.rstrip("\r\n")
    text = line.rstrip(" ")
    if (len(text) - len(text.rstrip("\\"))) % 2 and text != line:
        text += " "  # the first of the blanks is escaped
    segments = text.removeprefix("!").removeprefix("/").removesuffix("/").split("/")
    if "\n" in text or "\0" in text:
        raise ValueError("is not one line")
    if text.startswith("#"):
        raise ValueError("is a comment; a name that begins with '#' is written '\\#'")
    if segments == [""]:
        raise ValueError("names nothing")
    if "" in segments:
        raise ValueError("has an empty segment ('//'), which no path has")
    if "." in segments or ".." in segments:
        raise ValueError("has a segment '.' or '..', but paths begin below the source's directory")
    return text


_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \t",
    "cntrl": "\x01-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""POSIX's classes, and their form inside the brackets of a regular expression."""
_CLASS = re.compile(r"\[:([A-Za-z]*):\]")
_NAME = "[^/]*"


def _search(segments: Sequence[str], flags: re.RegexFlag) -> _Search:
    """Return the search for a pattern of these segments, for a whole path."""
    regex = ""
    for number, segment in enumerate(segments, 1):
        is_last = number == len(segments)
        if segment == "**":
            regex += ".+" if is_last else "(?:.+/)?"
        else:
            regex += _translated(segment) + ("" if is_last else "/")
    return re.compile(regex, flags | re.DOTALL).fullmatch


def _translated(segment: str) -> str:
    """Return the regular expression of a segment, read as git reads it. Raises ValueError."""
    regex, at = "", 0
    while at < len(segment):
        character, at = segment[at], at + 1
        if character == "[":
            found, at = _brackets(segment, at)
            regex += found
        elif character == "*":
            regex += "" if regex.endswith(_NAME) else _NAME
        elif character == "?":
            regex += "[^/]"
        else:
            if character == "\\":
                character, at = _escaped(segment, at)
            regex += re.escape(character)
    return regex


def _brackets(segment: str, at: int) -> tuple[str, int]:
    """Return the regular expression of the brackets whose inside begins at `at`, and where they end."""
    negated = segment[at : at + 1] in ("!", "^")
    at += negated
    members, begin, last = "", at, ""
    while segment[at : at + 1] != "]" or at == begin:
        if named := _CLASS.match(segment, at):
            if named[1] not in _CLASSES:
                raise ValueError(f"has {named[0]}, which is not a class of characters such as [:digit:]")
            members, last, at = members + _CLASSES[named[1]], "", named.end()
            continue
        is_range = bool(last) and segment[at : at + 1] == "-" and segment[at + 1 : at + 2] not in ("", "]")
        character, at = segment[at + is_range : at + is_range + 1], at + is_range + 1
        if character == "\\":
            character, at = _escaped(segment, at)
        if not character:
            raise ValueError("has a '[' without its ']'")
        if is_range and last > character:
            raise ValueError(f"has the range {last}-{character}, in which nothing lies")
        members += ("-" if is_range else "") + re.escape(character)
        last = "" if is_range else character
    return f"[^/{members}]" if negated else f"(?!/)[{members}]", at + 1


def _escaped(segment: str, at: int) -> tuple[str, int]:
    if at == len(segment):
        raise ValueError("has a backslash with nothing behind it")
    return segment[at], at + 1


class _PatternList:
    """Patterns in order: the last one that matches an entry decides, and a directory's for all below it."""

    def __init__(self, what: str, patterns: Sequence[str], *, ignore_case: bool) -> None:
        compiled: list[_Pattern] = []
        for pattern in patterns:
            try:
                compiled.append(_Pattern(pattern, ignore_case=ignore_case))
            except ValueError as error:
                raise ValueError(f"{what} pattern {pattern!r} {error}") from error
        self._patterns = tuple(reversed(compiled))
        self._directories: dict[str, bool] = {}

    def can_match(self) -> bool:
        """Return whether any entry can match: with only negations, none can."""
        return not all(pattern.negated for pattern in self._patterns)

    def matches_file(self, path: str) -> bool:
        """Return whether the file, or a directory above it, is matched."""
        directory, _, name = path.rpartition("/")
        return self.matches_directory(directory) or self._decide(path, name, is_directory=False)

    def matches_directory(self, path: str) -> bool:
        """Return whether the directory, or one above it, is matched; the root ('') never is."""
        # Go up to the nearest remembered directory, then down: no recursion, however deep.
        unknown: list[str] = []
        verdict = False
        while path:
            known = self._directories.get(path)
            if known is not None:
                verdict = known
                break
            unknown.append(path)
            path = path.rpartition("/")[0]
        for directory in reversed(unknown):
            verdict = verdict or self._decide(directory, directory.rpartition("/")[2], is_directory=True)
            if len(self._directories) >= _REMEMBERED_DIRECTORIES:
                self._directories.clear()
            self._directories[directory] = verdict
        return verdict

    def _decide(self, path: str, name: str, *, is_directory: bool) -> bool:
        pattern = self._deciding(path, name, is_directory=is_directory)
        return pattern is not None and not pattern.negated

    def _deciding(self, path: str, name: str, *, is_directory: bool) -> _Pattern | None:
        """Return the last pattern that matches this entry itself."""
        depth = path.count("/") + 1
        for pattern in self._patterns:
            if pattern.matches(path, name, depth, is_directory):
                return pattern
        return None

    def explain(self, path: str, *, is_directory: bool) -> tuple[str, str]:
        """Return the pattern that decides about an entry, and the matching entry: this one or one above."""
        last = "", ""
        for entry in _downward(path):
            directory = is_directory or entry != path
            pattern = self._deciding(entry, entry.rpartition("/")[2], is_directory=directory)
            if pattern is not None and not pattern.negated:
                return pattern.written, entry
            if entry == path and pattern is not None:
                last = pattern.written, entry
        return last


class _IncludeList(_PatternList):
    """Like `_PatternList`, but it cuts off nothing: the last pattern that matches the file or a directory
    above it decides, so that a negation also works below an included directory.
    """

    def __init__(self, patterns: Sequence[str], *, ignore_case: bool) -> None:
        super().__init__("include", patterns, ignore_case=ignore_case)
        self._ranks: dict[str, int] = {"": len(self._patterns)}

    def matches_file(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        rank = min(self._rank_of(directory), self._own_rank(path, name, is_directory=False))
        return rank < len(self._patterns) and not self._patterns[rank].negated

    def matches_directory(self, path: str) -> bool:
        rank = self._rank_of(path)
        return rank < len(self._patterns) and not self._patterns[rank].negated

    def _rank_of(self, directory: str) -> int:
        """Return the place, from the end, of the last pattern for the directory or one above it."""
        unknown: list[str] = []
        while directory not in self._ranks:
            unknown.append(directory)
            directory = directory.rpartition("/")[0]
        rank = self._ranks[directory]
        for path in reversed(unknown):
            rank = min(rank, self._own_rank(path, path.rpartition("/")[2], is_directory=True))
            if len(self._ranks) > _REMEMBERED_DIRECTORIES:
                self._ranks = {"": len(self._patterns)}
            self._ranks[path] = rank
        return rank

    def _own_rank(self, path: str, name: str, *, is_directory: bool) -> int:
        depth = path.count("/") + 1
        for rank, pattern in enumerate(self._patterns):
            if pattern.matches(path, name, depth, is_directory):
                return rank
        return len(self._patterns)

    def explain(self, path: str, *, is_directory: bool) -> tuple[str, str]:
        last = len(self._patterns)
        where = ""
        for entry in _downward(path):
            directory = is_directory or entry != path
            rank = self._own_rank(entry, entry.rpartition("/")[2], is_directory=directory)
            if rank < last:
                last, where = rank, entry
        return (self._patterns[last].written, where) if where else ("", "")


class Verdict(Struct, frozen=True):
    """Whether an entry is wanted, and which rule decides."""

    wanted: bool
    key: str = ""
    """The key of the configuration that decides, such as ``include`` or ``exclude``; empty: none does."""
    pattern: str = ""
    """The pattern, name or limit that decides, as written; empty: none matches."""
    entry: str = ""
    """The entry that it matches: the path, or a directory above it."""
    near: str = ""
    """A pattern that would decide otherwise if case did not matter."""

    def __str__(self) -> str:
        if not self.key:
            return "there are no patterns"
        if self.key in _LIMITS:
            return _LIMITS[self.key].format(pattern=self.pattern, entry=printable(self.entry) or "its root")
        if not self.pattern:
            told = f"no pattern of `{self.key}` matches"
            return f"{told} (`{self.near}` differs only in case)" if self.near else told
        match = f"`{self.pattern}` of `{self.key}` matches"
        if self.pattern.startswith("!"):
            match += " last"
        if self.near:
            match += f" (`{self.near}` differs only in case)"
        return match


_LIMITS = {
    "exclude_if_present": "`exclude_if_present` names `{pattern}`, which is in {entry}",
    "one_file_system": "`one_file_system` is set, and {entry} is on another file system",
    "made_up": "the kernel makes up what is in {entry} (file system {pattern})",
    "max_size": "it is larger than `max_size`, {pattern}",
}


class Rules:
    """Which paths of a source are wanted.

    ``include``, if there is any, means "only these": a file is wanted if the last pattern that matches it or
    a directory above it is not a negation. ``exclude`` wins. Patterns have gitignore's syntax, relative to
    the source's directory. For any thread.
    """

    def __init__(
        self,
        include: Sequence[str],
        exclude: Sequence[str],
        *,
        ignore_case: bool = False,
        temporary: bool = False,
        folders: bool = False,
        full_folders: bool = False,
    ) -> None:
        """`temporary`: also exclude `TEMPORARY`; `folders`: carry empty ones; `full_folders`: carry the
        others. Raises ValueError, naming the pattern and its fault.
        """
        self._folders, self._full_folders = folders, full_folders
        self._written = tuple(include), (*(TEMPORARY if temporary else ()), *exclude)
        include, exclude = self._written
        self._ignore_case, self._temporary = ignore_case, temporary
        self._include = _IncludeList(include, ignore_case=ignore_case) if include else None
        self._exclude = _PatternList("exclude", exclude, ignore_case=ignore_case) if exclude else None
        if self._include is not None and not self._include.can_match():
            raise ValueError(f"include pattern {include[0]!r} takes away from nothing: no pattern adds")

    @classmethod
    def of(cls, source: Source) -> Rules:
        """Return the patterns of a source."""
        return cls(
            source.include,
            source.exclude,
            ignore_case=source.ignore_case,
            temporary=source.exclude_temporary,
            folders=source.records_folders,
            full_folders=source.records_full_folders,
        )

    @classmethod
    def of_appended(cls, source: Source) -> Callable[[str], bool]:
        """Return the function that says whether a file of a source only grows."""
        if not source.append:
            return lambda path: False
        return cls(source.append, (), ignore_case=source.ignore_case).wants_file

    def is_temporary(self, path: str, *, is_directory: bool) -> bool:
        """Return whether an unwanted entry has a temporary name, as far as the lists tell."""
        if self._exclude is None or not self._temporary:
            return False
        return self._exclude.explain(path, is_directory=is_directory)[0] in TEMPORARY

    def wants_file(self, path: str) -> bool:
        """Return whether the file at this relative path is to be carried. A path that ends with a slash is an
        empty folder's.
        """
        if path.endswith("/"):
            return self._folders and self._wants_folder(path[:-1])
        if self._exclude is None and self._include is None:
            return True
        if self._exclude is not None and self._exclude.matches_file(path):
            return False
        return self._include is None or self._include.matches_file(path)

    def _wants_folder(self, path: str) -> bool:
        if self._exclude is not None and self._exclude.matches_directory(path):
            return False
        return self._include is None or self._include.matches_directory(path)

    def fills(self, path: str) -> bool:
        """Return whether an entry keeps its folder from being empty, because it, or something in it, may be
        carried. The path of a directory ends with a slash.
        """
        if self._full_folders:
            return False
        return self.wants_directory(path[:-1]) if path.endswith("/") else self.wants_file(path)

    def explain(self, path: str, *, is_directory: bool = False) -> Verdict:
        """Return whether the entry at this relative path is wanted, and why. Slower than `wants_file`."""
        verdict = self._explain(path, is_directory=is_directory)
        if self._ignore_case or not any(self._written):
            return verdict
        other = Rules(*self._written, ignore_case=True)._explain(path, is_directory=is_directory)
        if other.wanted == verdict.wanted or not other.pattern:
            return verdict
        return replace(verdict, near=other.pattern)

    def _explain(self, path: str, *, is_directory: bool) -> Verdict:
        excluded = "", ""
        if self._exclude is not None:
            excluded = self._exclude.explain(path, is_directory=is_directory)
            if excluded[0] and not excluded[0].startswith("!"):
                built_in = self._temporary and excluded[0] in TEMPORARY
                return Verdict(False, "exclude_temporary" if built_in else "exclude", *excluded)
        if self._include is not None and not is_directory:  # a directory may hold included files
            included = self._include.explain(path, is_directory=is_directory)
            return Verdict(bool(included[0]) and not included[0].startswith("!"), "include", *included)
        return Verdict(True, "exclude" if self._exclude is not None else "", *excluded)

    def wants_directory(self, path: str) -> bool:
        """Return whether anything below this directory may be wanted; False: neither descend nor watch."""
        return self._exclude is None or not self._exclude.matches_directory(path)


class ObjectRules:
    """The properties of objects, by patterns. For each property the last rule decides that matches the file
    or a directory above it and sets the property.
    """

    def __init__(self, source: Source) -> None:
        """Raises ValueError, naming the pattern and its fault."""
        self._rules = [
            (_PatternList("match", [pattern], ignore_case=source.ignore_case), properties)
            for pattern, properties in source.objects
        ]
        # If any rule sets tags, a file without a matching one has none, also after a copy.
        speaks = any(properties.tags is not None for _, properties in self._rules)
        self._plain = Properties(tags=() if speaks else None)

    def of(self, path: str) -> Properties:
        """Return the properties of the object of this file."""
        if path.endswith("/"):
            return Properties()  # a marker serves a restore, not readers
        found = self._plain
        for pattern, properties in self._rules:
            if pattern.matches_file(path):
                said = {field.name: getattr(properties, field.name) for field in fields(properties)}
                found = replace(
                    found, **{name: value for name, value in said.items() if value not in ("", None)}
                )
        return found


def _downward(path: str) -> Iterator[str]:
    """Yield each directory above the path, from the top, and the path itself."""
    at = -1
    while (at := path.find("/", at + 1)) >= 0:
        yield path[:at]
    yield path

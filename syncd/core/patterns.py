"""Rules: which paths of a source are wanted, said in gitignore patterns.

In ``exclude`` the order is git's: from the top directory downward, at each level the last pattern that
matches wins, and what is below an excluded directory is excluded whatever else is said. In ``include`` no
directory is cut off: of all patterns that match the file or a directory above it, the last one decides.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from pathspec import GitIgnoreSpec

from syncd.core.model import Properties, Source
from syncd.core.paths import printable

TEMPORARY = (
    "*.tmp", "*.part", "*.partial", "*.filepart", "*.crdownload", ".~tmp~/", ".rsync-partial/",
    ".syncthing.*.tmp", ".goutputstream-*", ".*.sw[a-p]", ".*.kate-swp", ".#*", "\\#*#", "~$*", ".~lock.*#",
    ".fuse_hidden*", ".nfs0*", ".DS_Store", "Thumbs.db",
)  # fmt: skip
"""Names that editors, browsers and copiers give to what is not a file yet, or only theirs. As if they stood
before the patterns of `exclude`, so that a negation there brings one back."""

_REMEMBERED_DIRECTORIES = 10_000
"""Bound of each list's memory of directories; it is cleared when it is full."""

_Search = Callable[[str], object]


class _Pattern:
    """One gitignore pattern, asked about one entry at a time.

    The regular expressions come from pathspec, but they also match everything below what they match, and a
    negation must not: ``!keep`` is about ``keep``, not about what is in it. So an entry counts as matched
    only if its own last segments match what follows the pattern's last ``**``; in a pattern without any,
    that is the whole pattern, and the entry has as many segments.
    """

    __slots__ = ("_directories_only", "_exact", "_tail", "_tail_length", "_whole", "negated", "written")

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        self.written = pattern
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        text = _checked(pattern)
        self.negated = text.startswith("!")
        text = text.removeprefix("!")
        self._directories_only = text.endswith("/")
        segments = text.strip("/").split("/")
        if "/" not in text.removesuffix("/"):
            # Without a slash it is about names at any depth; and there "**" is but an asterisk.
            segments = ["**", "*" if segments == ["**"] else segments[0]]
        wild = [index for index, segment in enumerate(segments) if segment == "**"]
        tail = segments[wild[-1] + 1 :] if wild else segments
        self._exact = not wild
        self._tail_length = len(tail)
        self._tail = _search(tail, flags) if tail else None
        # Where the only "**" leads, or where there is none, the tail asks all that there is to ask.
        self._whole = None if tail and wild in ([], [0]) else _search(segments, flags)

    def matches(self, path: str, name: str, depth: int, is_directory: bool) -> bool:
        """Whether it matches this entry itself. `name` is the last of the `depth` segments of `path`."""
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
    """The pattern without insignificant blanks. Raises ValueError, saying why, if it can never match."""
    text = pattern if pattern.endswith("\\ ") else pattern.rstrip()
    segments = text.removeprefix("!").removeprefix("/").removesuffix("/").split("/")
    if "\n" in text or "\0" in text:
        raise ValueError("is not one line")
    if unknown := _unknown_class(text):
        raise ValueError(f"has {unknown}, which is not a class of characters such as [:digit:]")
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
    "graph": ':-~"-9!',  # '!' in front would negate
    "lower": "a-z",
    "print": " -~",
    "punct": ':-@[-`{-~"-.!',
    "space": " \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""POSIX's classes inside brackets, which git knows and pathspec does not."""
_BRACKETS = re.compile(r"\\.|\[[!^]?\]?(?:\[:[A-Za-z]*:\]|\\.|[^\]\\])*\]")
_CLASS = re.compile(r"\[:([A-Za-z]*):\]")


def _unknown_class(text: str) -> str:
    """The first class inside brackets that POSIX does not know; empty: none."""
    for brackets in _BRACKETS.findall(text):
        if brackets.startswith("["):
            for name in _CLASS.findall(brackets, 1):
                if name not in _CLASSES:
                    return f"[:{name}:]"
    return ""


def _without_classes(text: str) -> str:
    """The pattern with the characters of each class in its place."""

    def spelt(brackets: re.Match[str]) -> str:
        whole = brackets[0]
        if not whole.startswith("["):
            return whole
        return whole[0] + _CLASS.sub(lambda found: _CLASSES[found[1]], whole[1:])

    return _BRACKETS.sub(spelt, text)


def _search(segments: Sequence[str], flags: re.RegexFlag) -> _Search:
    """The compiled search for a pattern of these segments, anchored at the first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # a "[" in brackets stands for itself
            (pattern,) = GitIgnoreSpec.from_lines(["/" + _without_classes("/".join(segments))]).patterns
    except (ValueError, re.error) as error:
        raise ValueError("is not a gitignore pattern") from error
    if pattern.regex is None:
        raise ValueError("is not a gitignore pattern")
    return re.compile(pattern.regex.pattern, pattern.regex.flags | flags).search


class _PatternList:
    """gitignore patterns in order: the last one that matches an entry decides, a directory for all below."""

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
        """Whether any entry at all can match: with nothing but negations, none can."""
        return not all(pattern.negated for pattern in self._patterns)

    def matches_file(self, path: str) -> bool:
        """Whether the file, or a directory above it, is matched."""
        directory, _, name = path.rpartition("/")
        return self.matches_directory(directory) or self._decide(path, name, is_directory=False)

    def matches_directory(self, path: str) -> bool:
        """Whether the directory, or one above it, is matched; the root ('') never is."""
        # Upward to the nearest directory that is remembered, then down again: no recursion, however deep.
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
        """The last pattern that matches this entry itself."""
        depth = path.count("/") + 1
        for pattern in self._patterns:
            if pattern.matches(path, name, depth, is_directory):
                return pattern
        return None

    def explain(self, path: str, *, is_directory: bool) -> tuple[str, str]:
        """The pattern that decides about an entry, and the entry that it matches: this one or one above."""
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
    """As `_PatternList`, but nothing is cut off: the last pattern that matches the file or a directory above
    it decides, so that a negation also takes away from below a directory that is included.
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
        """The place, counted from the end, of the last pattern that matches the directory or one above it."""
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an entry is wanted, and what says so."""

    wanted: bool
    key: str = ""
    """The key of the configuration that decides, such as ``include`` or ``exclude``; empty: there is none."""
    pattern: str = ""
    """The pattern, name or limit that decides, as written; empty: none matches."""
    entry: str = ""
    """What it matches: the path, or a directory above it."""
    near: str = ""
    """A pattern that would decide otherwise if upper and lower case were the same."""

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
    "max_size": "it is larger than `max_size`, {pattern}",
}


class Rules:
    """Which paths of a source are wanted.

    ``include``, if there is any, means "only these": a file is wanted if the last pattern that matches it,
    or a directory above it, is no negation. ``exclude`` wins. Patterns have gitignore's syntax, relative to
    the source's directory. May be asked from several threads at once.
    """

    def __init__(
        self,
        include: Sequence[str],
        exclude: Sequence[str],
        *,
        ignore_case: bool = False,
        temporary: bool = False,
        folders: bool = False,
    ) -> None:
        """`temporary`: `TEMPORARY` is excluded, too; `folders`: empty ones are carried. Raises ValueError,
        naming the pattern and its fault.
        """
        self._folders = folders
        self._written = tuple(include), (*(TEMPORARY if temporary else ()), *exclude)
        include, exclude = self._written
        self._ignore_case, self._temporary = ignore_case, temporary
        self._include = _IncludeList(include, ignore_case=ignore_case) if include else None
        self._exclude = _PatternList("exclude", exclude, ignore_case=ignore_case) if exclude else None
        if self._include is not None and not self._include.can_match():
            raise ValueError(f"include pattern {include[0]!r} takes away from nothing: no pattern adds")

    @classmethod
    def of(cls, source: Source) -> Rules:
        """The patterns of a source."""
        return cls(
            source.include,
            source.exclude,
            ignore_case=source.ignore_case,
            temporary=source.exclude_temporary,
            folders=source.records_folders,
        )

    def is_temporary(self, path: str, *, is_directory: bool) -> bool:
        """Whether an entry that is not wanted has a temporary name, as far as the lists tell."""
        if self._exclude is None or not self._temporary:
            return False
        return self._exclude.explain(_one_line(path), is_directory=is_directory)[0] in TEMPORARY

    def wants_file(self, path: str) -> bool:
        """Whether the file at this relative path is to be carried; or the folder, where the path ends with a
        slash, if it is empty.
        """
        if path.endswith("/"):
            return self._folders and self._wants_folder(_one_line(path[:-1]))
        if self._exclude is None and self._include is None:
            return True
        path = _one_line(path)
        if self._exclude is not None and self._exclude.matches_file(path):
            return False
        return self._include is None or self._include.matches_file(path)

    def _wants_folder(self, path: str) -> bool:
        if self._exclude is not None and self._exclude.matches_directory(path):
            return False
        return self._include is None or self._include.matches_directory(path)

    def fills(self, path: str) -> bool:
        """Whether an entry keeps the folder that it is in from being an empty one: it, or something in it,
        may be carried. The path of a directory ends with a slash.
        """
        return self.wants_directory(path[:-1]) if path.endswith("/") else self.wants_file(path)

    def explain(self, path: str, *, is_directory: bool = False) -> Verdict:
        """Whether the entry at this relative path is wanted, and why. Slower than `wants_file`."""
        verdict = self._explain(_one_line(path), is_directory=is_directory)
        if self._ignore_case or not any(self._written):
            return verdict
        other = Rules(*self._written, ignore_case=True)._explain(_one_line(path), is_directory=is_directory)
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
        if self._include is not None and not is_directory:  # a directory may hold what is included
            included = self._include.explain(path, is_directory=is_directory)
            return Verdict(bool(included[0]) and not included[0].startswith("!"), "include", *included)
        return Verdict(True, "exclude" if self._exclude is not None else "", *excluded)

    def wants_directory(self, path: str) -> bool:
        """Whether anything below this directory may be wanted: False means neither descend nor watch."""
        return self._exclude is None or not self._exclude.matches_directory(_one_line(path))


class ObjectRules:
    """The properties of objects, by patterns. Of all rules that match a file or a directory above it and say
    something about a property, the last one decides about that property.
    """

    def __init__(self, source: Source) -> None:
        """Raises ValueError, naming the pattern and its fault."""
        self._rules = [
            (_PatternList("match", [pattern], ignore_case=source.ignore_case), properties)
            for pattern, properties in source.objects
        ]
        # Where any rule speaks of tags, a file that none of these matches has none, also after a copy.
        speaks = any(properties.tags is not None for _, properties in self._rules)
        self._plain = Properties(tags=() if speaks else None)

    def of(self, path: str) -> Properties:
        """The properties of the object of this file."""
        if path.endswith("/"):
            return Properties()  # a marker is for those who restore, not for those who read
        found, path = self._plain, _one_line(path)
        for pattern, properties in self._rules:
            if pattern.matches_file(path):
                said = {field.name: getattr(properties, field.name) for field in fields(properties)}
                found = replace(
                    found, **{name: value for name, value in said.items() if value not in ("", None)}
                )
        return found


def _downward(path: str) -> Iterator[str]:
    """Each directory above the path, from the top, and the path itself."""
    at = -1
    while (at := path.find("/", at + 1)) >= 0:
        yield path[:at]
    yield path


def _one_line(path: str) -> str:
    """The path as it is matched: regular expressions take a newline for an end, no pattern can hold one."""
    return path.replace("\n", "\0") if "\n" in path else path

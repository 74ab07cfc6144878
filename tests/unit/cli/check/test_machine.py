"""What `syncd check` asks of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.cli.check import machine
from syncd.core.model import Source
from syncd.sources.watch import inotify

ScanResults = list[tuple[str, bool | None, str]]


def directories(sources: list[Source], state_dir: str) -> ScanResults:
    found: ScanResults = []
    machine.directories(sources, state_dir, lambda *row: found.append(row))
    return found


def limits(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *sources: Source,
    watches: int | str = 100,
    queue: int = 16384,
) -> ScanResults:
    """What is said where the kernel allows so many watches and queued events."""
    proc = tmp_path / "fs" / "inotify"
    proc.mkdir(parents=True, exist_ok=True)
    (proc / "max_user_watches").write_text(f"{watches}\n")
    (proc / "max_queued_events").write_text(f"{queue}\n")
    monkeypatch.setattr(inotify, "_LIMITS", str(tmp_path))
    found: ScanResults = []
    machine.patterns_and_watches(sources, lambda *row: found.append(row))
    return found


def tree(tmp_path: Path, count: int) -> Source:
    root = tmp_path / "tree"
    for number in range(count - 1):
        (root / f"d{number}").mkdir(parents=True)
    return Source("docs", str(root), "nas")


def test_what_is_there_and_readable_passes(tmp_path: Path) -> None:
    """A root, and a state directory that can be written."""
    found = directories([Source("docs", str(tmp_path), "nas")], str(tmp_path))
    assert found == [("source docs", True, str(tmp_path)), ("state directory", True, str(tmp_path))]


def test_a_root_that_is_not_there_is_a_remark(tmp_path: Path) -> None:
    """It may be a disk that is plugged in later."""
    found = directories([Source("docs", str(tmp_path / "x"), "nas")], str(tmp_path))
    assert found[0][:2] == ("source docs", None)
    assert "wait" in found[0][2]


def test_a_root_that_cannot_be_read_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = directories([Source("docs", str(tmp_path), "nas")], str(tmp_path))
    assert [passed for _, passed, _ in found] == [False, False]
    assert "change" in found[0][2]
    assert "change" in found[1][2]


def test_a_state_directory_that_is_yet_to_be_made_is_judged_by_its_parent(tmp_path: Path) -> None:
    """However deep."""
    assert directories([], str(tmp_path / "a" / "b" / "c"))[0][:2] == ("state directory", True)


def test_a_state_directory_that_the_service_would_refuse_is_told(tmp_path: Path) -> None:
    """Where others can write. That of another user is a remark for root, who asks before the service does."""
    place = tmp_path / "state"
    place.mkdir()
    place.chmod(0o777)
    ((_, passed, words),) = directories([], str(place))
    assert (passed, "chmod 700" in words) == (False, True)
    if os.geteuid() == 0:
        place.chmod(0o700)
        os.chown(place, 65534, 65534)
        ((_, passed, words),) = directories([], str(place))
        assert (passed, "run syncd as nobody" in words) == (None, True)


@pytest.mark.parametrize(
    ("watches", "queue", "passed", "detail"),
    [
        (100, 16384, [True], "10 of 100 would be used"),
        (
            11,
            16384,
            [False],
            "10 directories, but 11 watches; raise it with: sysctl fs.inotify.max_user_watches=8192",
        ),
        ("many", 16384, [None], "the kernel's limit is unknown; 10 directories are to be watched"),
        (100, 100, [True, None], "raise it with: sysctl fs.inotify.max_queued_events=65536"),
    ],
)
def test_limits_are_judged_with_the_line_that_helps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watches: int | str,
    queue: int,
    passed: list[bool | None],
    detail: str,
) -> None:
    """Folders grow, so some headroom is wanted; a short queue costs scans, not files, and is a remark."""
    found = limits(monkeypatch, tmp_path, tree(tmp_path, 10), watches=watches, queue=queue)
    assert [mark for _, mark, _ in found] == passed
    assert found[-1][2].endswith(detail)


def test_the_advice_is_that_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number: what lies beyond the limit is what the watcher counts."""
    found = limits(monkeypatch, tmp_path, tree(tmp_path, 50), watches=20)
    assert found[0][2].endswith(inotify.watches_remedy(50 - 20))


def test_excluded_directories_need_no_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do those behind symbolic links."""
    source = tree(tmp_path, 10)
    (tmp_path / "tree" / "link").symlink_to(tmp_path)
    kept = Source("docs", source.root, "nas", exclude=("d1/", "d2/"))
    found = limits(monkeypatch, tmp_path, kept)
    assert found[0][2] == "8 of 100 would be used"


def test_a_directory_that_cannot_be_listed_is_still_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that vanishes stop the count."""
    source = tree(tmp_path, 3)
    real = machine.open_listing

    def refuse(root_fd: int, path: bytes) -> int:
        if path == b"d1":
            raise PermissionError(13, "no")
        return real(root_fd, path)

    monkeypatch.setattr(machine, "open_listing", refuse)
    found = limits(monkeypatch, tmp_path, source)
    assert found[0][2] == "3 of 100 would be used"


def test_what_a_marker_leaves_out_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its directories nor its files."""
    source = tree(tmp_path, 3)
    for place in ("d0/below/x.a", "d1/y.a"):
        (tmp_path / "tree" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "tree" / place).touch()
    (tmp_path / "tree/d0/.nobackup").touch()
    kept = Source("docs", source.root, "nas", include=("*.a",), exclude_if_present=(".nobackup",))
    found = limits(monkeypatch, tmp_path, kept)
    assert [row[2] for row in found[:2]] == ["they take 1 of 1 file", "2 of 100 would be used"]


def test_the_real_machine_can_be_asked(tmp_path: Path) -> None:
    """With its own limits."""
    found: ScanResults = []
    machine.patterns_and_watches([tree(tmp_path, 2)], lambda *row: found.append(row))
    assert found[0][0] == "inotify watches"


@pytest.mark.parametrize(
    ("include", "passed", "words"),
    [((), None, ""), (("*.a",), True, "they take 2 of 3 files"), (("*.c",), None, "they take 0 of 3 files")],
)
def test_it_is_said_how_many_files_the_patterns_take(
    include: tuple[str, ...], passed: bool | None, words: str, tmp_path: Path
) -> None:
    """A pattern that takes nothing is probably not meant so. Without patterns there is nothing to say."""
    for name in ("x.a", "y.a", "z.b"):
        (tmp_path / name).touch()
    found: list[tuple[str, bool | None, str]] = []
    source = Source("docs", str(tmp_path), "store", include=include)
    machine.patterns_and_watches([source], lambda *row: found.append(row))
    said = [row for row in found if row[0] == "patterns of docs"]
    assert said == ([("patterns of docs", passed, words)] if words else [])

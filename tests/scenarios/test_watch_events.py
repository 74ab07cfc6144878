"""Which action on a file is heard, one by one; and what is not, until the next scan."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.sources.watch.watch_rig import apart, eventually, exchange, following, look, watching


def heard_after(root: Path, action: Callable[[], object]) -> list[str]:
    """The paths that are reported, each once and sorted, because of `action`."""
    with watching(root) as watch:
        action()
        assert watch.has_heard_everything()
        return sorted(set(watch.listener.paths()))


def test_new_file(root: Path) -> None:
    """W14: a new file is reported."""
    assert heard_after(root, lambda: (root / "file").write_text("x")) == ["file"]


def test_saved_by_temporary_file_and_rename(root: Path) -> None:
    """W14: an editor's save by rename reports both names."""
    (root / "file").write_text("old")

    def save() -> None:
        (root / "file.tmp").write_text("new")
        (root / "file.tmp").rename(root / "file")

    assert heard_after(root, save) == ["file", "file.tmp"]


def test_saved_by_rename_from_outside(root: Path, outside: Path) -> None:
    """W14: a file that is renamed into the tree is reported."""
    (outside / "file").write_text("x")

    assert heard_after(root, lambda: (outside / "file").rename(root / "file")) == ["file"]


def test_moved_out_file(root: Path, outside: Path) -> None:
    """W14: a file that is renamed out of the tree is reported: it is absent now."""
    (root / "file").write_text("x")

    assert heard_after(root, lambda: (root / "file").rename(outside / "file")) == ["file"]


def test_hard_link_into_the_tree(root: Path, outside: Path) -> None:
    """W14: a hard link that is made in the tree is reported."""
    (outside / "file").write_text("x")

    assert heard_after(root, lambda: os.link(outside / "file", root / "linked")) == ["linked"]


def test_symbolic_link_into_the_tree(root: Path, outside: Path) -> None:
    """W14: a symbolic link is reported itself, for the count of what is skipped."""
    assert heard_after(root, lambda: (root / "link").symlink_to(outside)) == ["link"]


def test_edit_through_a_hard_link_outside(root: Path, outside: Path) -> None:
    """W14: makes no event (the kernel knows names, not files); the bound is the next scan."""
    (outside / "file").write_text("x")
    os.link(outside / "file", root / "linked")
    before = look(str(root), "linked")

    assert heard_after(root, lambda: (outside / "file").write_text("changed")) == []
    assert look(str(root), "linked") != before


def test_edit_through_a_bind_mount_outside(tmp_path: Path) -> None:
    """W14: an edit through another mount of the same directory is reported."""
    assert apart("edit_through_a_bind_mount", tmp_path) == {"heard": True}


def test_memory_mapped_write(root: Path) -> None:
    """W14: a store through a mapping makes no event; closing the writable descriptor does."""
    (root / "file").write_bytes(b"x" * 4096)

    def store() -> None:
        with open(root / "file", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:3] = b"new"
            mapped.flush()

    assert heard_after(root, store) == ["file"]


def test_truncated_by_path(root: Path) -> None:
    """W14: truncation by path, which closes nothing, is reported."""
    (root / "file").write_text("content")

    assert heard_after(root, lambda: os.truncate(root / "file", 2)) == ["file"]


def test_writer_that_never_closes(root: Path) -> None:
    """W14: each flush of a file that stays open is reported."""
    with watching(root) as watch, open(root / "log", "w") as log:
        assert watch.listener.hears("log")
        for number in range(3):
            assert watch.has_heard_everything()
            watch.listener.forget()
            log.write(f"{number}\n")
            log.flush()
            assert watch.listener.hears("log")


def test_unnamed_file_that_is_linked_in(root: Path) -> None:
    """W14: is reported when it gets its name; later writes are not: the bound is the next scan."""
    with watching(root) as watch:
        fd = os.open(root, os.O_TMPFILE | os.O_WRONLY)
        os.write(fd, b"content")
        assert watch.has_heard_everything()
        assert watch.listener.paths() == []
        os.link(f"/proc/self/fd/{fd}", root / "named", src_dir_fd=fd, follow_symlinks=True)
        assert watch.listener.hears("named")

        before = look(str(root), "named")
        os.write(fd, b"more")
        os.close(fd)
        assert watch.has_heard_everything()
        assert set(watch.listener.paths()) == {"named"}
        assert look(str(root), "named") != before


@pytest.mark.parametrize(
    "action",
    [
        lambda path: os.chmod(path, 0o600),
        lambda path: os.utime(path, (1, 1)),
        lambda path: os.setxattr(path, "user.syncd-test", b"x"),
    ],
    ids=["chmod", "utime", "xattr"],
)
def test_attributes_make_no_event(root: Path, action: Callable[[Path], None]) -> None:
    """W14: attributes are not content: no event is asked for; a scan sees the new ctime."""
    (root / "file").write_text("x")
    before = os.stat(root / "file")

    assert heard_after(root, lambda: action(root / "file")) == []
    assert eventually(
        lambda: action(root / "file") or os.stat(root / "file").st_ctime_ns != before.st_ctime_ns
    )


def test_exchange_of_two_files(root: Path) -> None:
    """W14: an atomic exchange reports both names."""
    (root / "one").write_text("1")
    (root / "two").write_text("2")

    assert heard_after(root, lambda: exchange(root / "one", root / "two")) == ["one", "two"]


def test_write_inside_a_symlinked_directory(root: Path, outside: Path) -> None:
    """W14: symbolic links are not followed: what is written behind one is not ours."""
    (root / "link").symlink_to(outside)

    assert heard_after(root, lambda: (root / "link/file").write_text("x")) == []


def test_deleted_file(root: Path) -> None:
    """W14: a deleted file is reported: it is absent now."""
    (root / "file").write_text("x")

    assert heard_after(root, (root / "file").unlink) == ["file"]


@pytest.mark.parametrize(
    "script",
    [
        "echo one > file; sed -i s/one/two/ file",
        "mkdir -p a/b; cp -a a c; echo x > c/b/file; mv c/b a/moved",
        "mkdir src; echo x > src/file; rsync -a src/ copy/; echo more >> src/file; rsync -a src/ copy/",
        "git init -q r; cd r; echo x > f; git add f; git $ME commit -qm m; git clone -q . ../c",
    ],
    ids=["sed", "cp-mv", "rsync", "git"],
)
def test_tools_that_people_use(root: Path, script: str) -> None:
    """What everyday tools leave behind is known as it is in the end."""
    tool = next(word for word in ("rsync", "git", "sed", "cp") if word in script)
    if shutil.which(tool) is None:
        pytest.skip(f"{tool.upper()} IS NOT INSTALLED ON THIS MACHINE")
    with following(root) as (watch, follower):
        environment = os.environ | {"ME": "-c user.name=n -c user.email=e"}
        subprocess.run(["sh", "-ec", script], cwd=root, env=environment, check=True, timeout=30)

        assert follower.is_right(), follower.errors()
        assert watch.watches_exactly(str(root))

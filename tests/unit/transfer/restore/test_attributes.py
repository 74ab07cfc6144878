"""A file gets the attributes of its object, and no rights that were not asked for."""

from __future__ import annotations

import errno
import os
import stat as modes
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import Attributes
from syncd.transfer.restore.attributes import give

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service, effective."""
NOBODY = 0xFFFFFFFF


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


def mode_of(fd: int) -> int:
    return modes.S_IMODE(os.fstat(fd).st_mode)


def test_a_file_without_attributes_has_the_mode_of_a_new_file(fd: int) -> None:
    """And of others only what is known."""
    assert give(fd, Attributes(), 0o644, special=False) == []
    assert (mode_of(fd), os.listxattr(fd)) == (0o644, [])
    assert give(fd, Attributes(0o751, xattrs=(("user.a\udcff", b"1"),)), 0o644, special=False) == []
    assert (mode_of(fd), os.listxattr(fd)) == (0o751, ["user.a\udcff"])


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_the_folder_above_gives_lets_nobody_else_in(tmp_path: Path, kind: str) -> None:
    """A default list of the folder that is restored to would open a private file to those whom it names."""
    entries = ((1, 7, NOBODY), (2, 7, 4242), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY))
    rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(tmp_path, "system.posix_acl_default", rights)
    if kind == "folder":
        (tmp_path / "new").mkdir()
        fd = os.open(tmp_path / "new", os.O_RDONLY)
    else:
        fd = os.open(tmp_path / "new", os.O_RDWR | os.O_CREAT, 0o600)
    assert "system.posix_acl_access" in os.listxattr(fd)
    assert give(fd, Attributes(0o640), 0o600, special=False) == []
    assert (mode_of(fd), os.listxattr(fd)) == (0o640, [])
    os.close(fd)


@pytest.mark.parametrize("special", [False, True])
def test_setuid_and_capabilities_have_to_be_asked_for(fd: int, special: bool) -> None:
    """Anybody may have written the object."""
    wanted = Attributes(0o6755, xattrs=(("security.capability", CAPABILITY),))
    failed = give(fd, wanted, 0o600, special=special)
    assert mode_of(fd) == (0o6755 if special else 0o755)
    if os.geteuid() == 0:
        assert failed == []
        assert os.listxattr(fd) == (["security.capability"] if special else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="CANNOT BE TESTED HERE: only root gives files away")
def test_owners_are_those_of_the_name_else_of_the_number(fd: int) -> None:
    """A change of owner takes neither mode nor capabilities away."""
    wanted = Attributes(0o4711, 4242, 4243, "daemon", "no such group", (("security.capability", CAPABILITY),))
    assert give(fd, wanted, 0o600, special=True) == []
    found = os.fstat(fd)
    assert (found.st_uid, found.st_gid, mode_of(fd)) == (1, 4243, 0o4711)
    assert os.listxattr(fd) == ["security.capability"]


def test_without_root_owners_stay_silently(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who restores gets the files."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = os.fstat(fd)
    assert give(fd, Attributes(0o640, 4242, 4243), 0o600, special=False) == []
    assert (os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (before.st_uid, before.st_gid)


def test_what_the_file_system_refuses_is_named_and_the_rest_is_set(fd: int) -> None:
    """An attribute larger than the kernel takes, and names that are no file's own."""
    xattrs = (
        ("security.selinux", b"x"), ("system.posix_acl_access", b"no list"), ("trusted.x", b"x"),
        ("user.big", bytes(1 << 20)), ("user.ok", b"1"),
    )  # fmt: skip
    failed = give(fd, Attributes(0o640, xattrs=xattrs), 0o600, special=True)
    assert sorted(each.partition(":")[0] for each in failed) == ["system.posix_acl_access", "user.big"]
    assert (mode_of(fd), os.listxattr(fd)) == (0o640, ["user.ok"])


@pytest.mark.parametrize("says", [True, False])
def test_a_file_system_with_permissions_of_its_own_is_named(
    fd: int, monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    """Whether it refuses a mode, or lets it be as FAT does: a private file may be open to others then."""
    os.fchmod(fd, 0o777)

    def refuse(_fd: int, _mode: int) -> None:
        if says:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    (failed,) = give(fd, Attributes(0o640, xattrs=(("user.ok", b"1"),)), 0o600, special=False)
    kept = "others may use the file: the file system gives it 777"
    assert failed == f"mode: {os.strerror(errno.EPERM) if says else kept}"
    assert bool(give(fd, Attributes(0o777), 0o600, special=False)) == says
    assert os.listxattr(fd) == ["user.ok"]

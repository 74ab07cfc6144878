"""What is mounted where: which directories make no events for others' changes, and when that changes.

Source: proc_pid_mountinfo(5). This reads the kernel's table and never the file systems: asking a network file
system whose server is gone would hang.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

TABLE = "/proc/self/mountinfo"
UDEV = "/run/udev/data"
"""What udev read from each block device, such as ``b8:17``."""

_REMOTE = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cephfs", "cifs", "coda", "fhgfs", "fuse", "gfs", "gfs2",
    "glusterfs", "gpfs", "kafs", "lustre", "mfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs",
    "pvfs2", "shfs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})  # fmt: skip
"""Types whose files can change without this kernel noticing. Any ``fuse.*`` is one as well, whatever is
behind it. ``fuseblk`` is not: that is a disk of this machine."""

_ON_DEMAND = frozenset({"autofs", "fuseblk"})
"""Their files change with events or not at all, but looking there mounts something, or asks a process."""

_MADE_UP = frozenset({
    "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs",
    "selinuxfs", "smackfs", "sysfs", "tracefs",
})  # fmt: skip
"""Types whose files the kernel generates when they are read; their sizes are wrong."""

_STAMP_FOLDERS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""Types that set a directory's change time whenever a name in it comes or goes. FAT does not for its root,
and what network file systems report may be old."""

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mounted file system."""

    id: int
    type: str
    root: str = "/"
    """The directory of its file system that is mounted here."""
    device: str = ""
    """The number of the file system, as ``major:minor``."""


class MountTable:
    """The mount table of this process's namespace, and notice of its changes."""

    def __init__(self) -> None:
        """Raises OSError without ``/proc``."""
        self._fd = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
        self._mounts: dict[str, Mount] = {}
        self.refresh()

    def fileno(self) -> int:
        """Return the descriptor: poll reports POLLPRI (and POLLERR) on it after every change of the table."""
        return self._fd

    def refresh(self) -> set[str]:
        """Read the table; return the mount points where another file system is mounted than before."""
        mounts = parse(self._read())
        before, self._mounts = self._mounts, mounts
        return {point for point in before.keys() | mounts.keys() if before.get(point) != mounts.get(point)}

    def is_mount_point(self, path: str) -> bool:
        """Return whether something is mounted exactly at this absolute path."""
        return path in self._mounts

    def remote_type(self, path: str) -> str | None:
        """Return the type of the file system at this path if others can change it unseen; else None."""
        found = self.type_at(path)
        return found if is_remote(found) else None

    def type_at(self, path: str) -> str:
        """Return the type of the file system at this absolute path; empty: the table does not say."""
        while path not in self._mounts and path not in ("", "/"):
            path = os.path.dirname(path)
        mount = self._mounts.get(path)
        return mount.type if mount is not None else ""

    def may_hang(self, point: str) -> bool:
        """Return whether something is mounted exactly here whose server may be gone.

        False for the root of everything: without its server nothing runs.
        """
        mount = self._mounts.get(point)
        return mount is not None and point != "/" and (is_remote(mount.type) or mount.type in _ON_DEMAND)

    def hanging_type(self, path: str) -> str | None:
        """Return the type of a file system on the way to this path whose server may be gone; else None."""
        while path not in ("", "/"):
            if self.may_hang(path):
                return self._mounts[path].type
            path = os.path.dirname(path)
        return None

    def origin(self, path: str) -> str:
        """Return where an absolute path without links lies in its file system: ``major:minor`` and a path.

        A directory has one origin, however many mounts show it. Empty for network file systems, which do not
        report it.
        """
        point = path
        while point not in self._mounts and point not in ("", "/"):
            point = os.path.dirname(point)
        mount = self._mounts.get(point)
        if mount is None or is_remote(mount.type):
            return ""
        return f"{mount.device}{mount.root.rstrip('/')}/{path.removeprefix(point).lstrip('/')}".rstrip("/")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def _read(self) -> bytes:
        os.lseek(self._fd, 0, os.SEEK_SET)
        chunks = []
        while chunk := os.read(self._fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)


def origin(path: str) -> str:
    """See `MountTable.origin`; empty also if there is no table."""
    try:
        table = MountTable()
    except OSError:
        return ""
    table.close()
    return table.origin(path)


def type_of(device: int) -> str:
    """Return the type of the file system with this device number; empty: the table does not have it."""
    return _entry(device)[0]


def name_of(device: int) -> str:
    """Return a name for a file system without a UUID from the kernel: the server from which it is mounted, or
    the UUID or serial number that udev read from the disk. Empty: unknown.
    """
    type_name, source = _entry(device)
    if is_remote(type_name):
        return f"{source};"  # so that no name begins with another
    try:
        with open(f"{UDEV}/b{os.major(device)}:{os.minor(device)}", "rb") as file:
            told = file.read().partition(b"\nE:ID_FS_UUID=")[2].partition(b"\n")[0]
    except OSError:
        return ""
    return told.decode("ascii", "replace").replace("-", "").lower()


def _entry(device: int) -> tuple[str, str]:
    """Return type and source of a mounted file system, the source as the kernel's table writes it."""
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        with open(TABLE, "rb") as table:
            for line in table:
                mount, _, tail = line.partition(b" - ")
                if number in mount.split(b" ", 3)[2:3]:
                    type_name, source = tail.split(b" ")[:2]
                    return os.fsdecode(type_name), source.decode("ascii", "backslashreplace")
    except OSError:
        pass
    return "", ""


def mount_of(descriptor: int) -> bytes:
    """Return the kernel's name of the mount that shows an open directory; empty: unknown.

    Source: proc_pid_fdinfo(5). A mount over a folder may have the folder's own device.
    """
    try:
        info = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(info, 4096, 0).partition(b"mnt_id:")[2].partition(b"\n")[0].strip()
    finally:
        os.close(info)


def is_remote(type_name: str) -> bool:
    """Return whether a file system of this type changes without events."""
    return type_name in _REMOTE or type_name.startswith("fuse.")


def stamps_folders(type_name: str) -> bool:
    """Return whether the change time of a directory shows when a name in it last came or went."""
    return type_name in _STAMP_FOLDERS


def is_made_up(type_name: str) -> bool:
    """Return whether the kernel generates the files of such a file system, like ``/proc`` and ``/sys``."""
    return type_name in _MADE_UP


def parse(table: bytes) -> dict[str, Mount]:
    """Return, for each mount point (absolute, surrogate-escaped), the mount that came last."""
    mounts = {}
    for line in table.splitlines():
        fields, _, tail = line.partition(b" - ")
        words = fields.split(b" ")
        if len(words) > 4 and tail:
            root, point = (_unescaped(word) for word in words[3:5])
            kind, device = (os.fsdecode(word) for word in (tail.split(b" ")[0], words[2]))
            mounts[point] = Mount(int(words[0]), kind, root, device)
    return mounts


def hidden_by(path: str) -> str | None:
    """Return the sandbox directive of syncd's unit that covers `path`, such as ``PrivateTmp=``; None: none.

    Use this when a root is missing or empty: the unit may be the reason, not the disk.
    """
    try:
        with open(TABLE, "rb") as table:
            return hiding_directive(path, table.read())
    except OSError:
        return None


def hiding_directive(path: str, table: bytes) -> str | None:
    """Like `hidden_by`, from the text of the mount table."""
    mounts = parse(table)
    point = path
    while point not in mounts and point not in ("", "/"):
        point = os.path.dirname(point)
    mount = mounts.get(point)
    return _directive(mount, point) if mount is not None else None


def _directive(mount: Mount, point: str) -> str | None:
    """Return the directive for which systemd mounted this, by the marks of its mounts."""
    home = point in {"/home", "/root", "/run/user"}
    if "/systemd-private-" in mount.root:
        return "PrivateTmp="
    if "/systemd/inaccessible/" in mount.root:
        return "ProtectHome=" if home else "InaccessiblePaths="
    if mount.type == "tmpfs" and home:
        return "ProtectHome=tmpfs"
    return None


def _unescaped(word: bytes) -> str:
    """Decode the three octal digits for space, tab, newline and backslash."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), word))

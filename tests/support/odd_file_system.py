"""File systems that are not POSIX, by FUSE: they fold, rewrite or refuse names, and know no permissions.

    with odd(tmp_path / "mnt", case=True) as at: ...      # README and readme are one file

As a program (``python -m tests.support.odd_file_system BACK MOUNT JSON``) it serves one; `odd` starts that.
Each name is kept in a directory of an ordinary file system, as it was first written.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.support import mounting
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Oddities:
    """What it does with names and files."""

    case: bool = False
    """Names that differ by case are one."""
    normal: bool = False
    """Names that differ by Unicode form are one."""
    form: str = ""
    """Names are rewritten to this Unicode form."""
    upper_lost: bool = False
    """Capital letters become small ones."""
    strips: str = ""
    """What is dropped at the end of a name."""
    refuses: str = ""
    """No name may hold one of these."""
    devices: bool = False
    """No name may be ``con`` or ``con.something``."""
    longest: int = 255
    """Bytes of a name."""
    denied: str = ""
    """This name fails as if there were no permission."""
    most_names: int = 0
    """A directory takes no more names; 0: any number."""
    modes: bool = True
    attributes: bool = True


SHARE = Oddities(case=True, strips=". ", refuses='"*:<>?\\|' + "".join(map(chr, range(1, 32))), devices=True,
                modes=False, attributes=False)  # fmt: skip
"""As a share of Windows."""


@contextmanager
def odd(at: Path, oddities: Oddities) -> Iterator[Path]:
    """Mounted inside the block; skips the test where that cannot be."""
    mounting.need()
    if not os.path.exists("/dev/fuse"):
        pytest.skip("CANNOT BE TESTED HERE: there is no /dev/fuse")
    if subprocess.run([sys.executable, "-c", "import fuse"], capture_output=True, check=False).returncode:
        pytest.skip("CANNOT BE TESTED HERE: fusepy or libfuse2 is not installed")
    back = at.with_name(at.name + "-back")
    back.mkdir()
    at.mkdir()
    command = [sys.executable, "-m", __name__, str(back), str(at), json.dumps(asdict(oddities))]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until("FUSE mounts", lambda: os.path.ismount(at) or server.poll() is not None)
        if server.poll() is not None:
            said = server.stdout.read().decode() if server.stdout else ""
            pytest.skip(f"CANNOT BE TESTED HERE: FUSE does not mount: {said}")
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], capture_output=True, check=False)
        server.terminate()
        server.wait()
        if server.stdout:
            server.stdout.close()


def serve(back: str, at: str, odd: Oddities) -> None:
    """Until it is unmounted."""
    import fuse  # only here: the tests have to be collected without it

    def one(name: str) -> str:
        """The same for all names of one file."""
        name = name.rstrip(odd.strips) if odd.strips else name
        if odd.normal or odd.form:
            name = unicodedata.normalize("NFC", name)
        return name.casefold() if odd.case or odd.upper_lost else name

    def written(name: str) -> str:
        """How a new entry of this name is called."""
        if any(character in odd.refuses for character in name):
            raise fuse.FuseOSError(errno.EINVAL)
        if odd.devices and name.partition(".")[0].casefold() == "con":
            raise fuse.FuseOSError(errno.EACCES)
        if odd.denied and name == odd.denied:
            raise fuse.FuseOSError(errno.EACCES)
        if len(os.fsencode(name)) > odd.longest:
            raise fuse.FuseOSError(errno.ENAMETOOLONG)
        name = name.rstrip(odd.strips) if odd.strips else name
        name = unicodedata.normalize(odd.form, name) if odd.form else name
        return name.lower() if odd.upper_lost else name

    def find(path: str) -> str:
        """The place behind a path; the last name need not be there."""
        here = back
        for name in filter(None, path.split("/")):
            try:
                names = os.listdir(here)
            except OSError:
                names = []
            here = os.path.join(here, next((n for n in names if one(n) == one(name)), name))
        return here

    def new(path: str) -> str:
        place = find(path)
        if os.path.lexists(place):
            return place
        if odd.most_names and len(os.listdir(os.path.dirname(place))) >= odd.most_names:
            raise fuse.FuseOSError(errno.ENOSPC)
        return os.path.join(os.path.dirname(place), written(os.path.basename(place)))

    class Odd(fuse.Operations):
        def getattr(self, path, fh=None):
            found = os.lstat(find(path))
            stat = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
            if not odd.modes:
                stat["st_mode"] |= 0o755 if os.path.isdir(find(path)) else 0o644
            return stat

        def readdir(self, path, fh):
            return [".", "..", *os.listdir(find(path))]

        def open(self, path, flags):
            return os.open(find(path), flags & ~os.O_NOFOLLOW)

        def create(self, path, mode, fi=None):
            return os.open(new(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path, size, off, fh):
            return os.pread(fh, size, off)

        def write(self, path, data, off, fh):
            return os.pwrite(fh, data, off)

        def truncate(self, path, length, fh=None):
            os.truncate(find(path), length)

        def release(self, path, fh):
            os.close(fh)

        def fsync(self, path, datasync, fh):
            return 0

        fsyncdir = fsync

        def flush(self, path, fh):
            return 0

        def unlink(self, path):
            os.unlink(find(path))

        def rmdir(self, path):
            os.rmdir(find(path))

        def mkdir(self, path, mode):
            os.mkdir(new(path), mode)

        def rename(self, old, target):
            os.rename(find(old), new(target))  # where one is there, its name stays

        def chmod(self, path, mode):
            return 0

        def chown(self, path, uid, gid):
            return 0

        def utimens(self, path, times=None):
            os.utime(find(path), times)

        def statfs(self, path):
            found = os.statvfs(back)
            return {
                name: getattr(found, name)
                for name in dir(found)
                if name.startswith("f_") and name != "f_fsid"
            }

        def getxattr(self, path, name, position=0):
            return self._attributes(os.getxattr, path, name)

        def setxattr(self, path, name, value, options, position=0):
            return self._attributes(os.setxattr, path, name, value)

        def _attributes(self, call, path, *more):
            if not odd.attributes:
                raise fuse.FuseOSError(errno.EOPNOTSUPP)
            return call(find(path), *more)

        def link(self, target, source):
            raise fuse.FuseOSError(errno.EPERM)

    fuse.FUSE(Odd(), at, foreground=True, nothreads=True, use_ino=True, attr_timeout=0, entry_timeout=0,
              negative_timeout=0)  # fmt: skip


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Oddities(**json.loads(sys.argv[3])))

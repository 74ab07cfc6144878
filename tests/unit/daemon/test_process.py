"""The process and its machine: its id, descriptors, and memory that no debugger reads."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.daemon import process
from syncd.sources import mounts


def test_the_limit_on_descriptors_is_raised() -> None:
    """The soft limit is for programs that use select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        process.raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


IDS = ("a" * 32, "b" * 32)


@pytest.mark.parametrize(
    ("root", "mounted", "texts", "expected"),
    [
        ("ext4", (), IDS, IDS[0]),
        ("ext4", (), ("", IDS[1]), IDS[1]),
        ("ext4", (), (None, IDS[1]), IDS[1]),
        ("ext4", (), (None, None), ""),
        ("ext4", (), ("uninitialized", None), ""),
        ("overlay", (), IDS, ""),
        ("overlay", (0,), IDS, IDS[0]),
        ("overlay", (1,), IDS, IDS[1]),
        ("podman", (), IDS, ""),
        ("podman", (0,), IDS, IDS[0]),
    ],
)
def test_a_machine_is_known_by_an_id_of_its_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root: str,
    mounted: tuple[int, ...],
    texts: tuple[str | None, str | None],
    expected: str,
) -> None:
    """The id in an image is that of all its containers; one that was mounted into a container is meant."""
    paths = (tmp_path / "machine-id", tmp_path / "dbus-id")
    for path, text in zip(paths, texts, strict=True):
        if text is not None:
            path.write_text(text + "\n")
    lines = ["22 1 0:21 / /proc rw - proc proc rw", f"1 0 254:0 / / rw shared:1 - {root} /dev/vda rw"]
    lines += [f"30 1 254:1 /id {paths[number]} rw - ext4 /dev/vdb rw" for number in mounted]
    table, mark = tmp_path / "mountinfo", tmp_path / "mark"
    table.write_text("\n".join(lines))
    if root == "podman":
        mark.touch()
    monkeypatch.setattr(mounts, "TABLE", str(table))
    monkeypatch.setattr(process, "PODMANS_MARK", str(mark))
    monkeypatch.setattr(process, "MACHINE_IDS", tuple(str(path) for path in paths))

    assert process.machine_id() == expected


def test_a_process_that_holds_keys_is_closed() -> None:
    """To core dumps, and to debuggers of its own user: said by the process itself."""
    program = (
        "import ctypes, resource; from syncd.daemon import process; process.keep_memory_private(); "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


def test_free_memory_goes_back_to_the_kernel() -> None:
    """What threads have freed, too, because all share one heap; in a process of its own."""
    program = """
import ctypes, sys, threading
from syncd.daemon import process
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
process.share_one_heap()
def work():
    blocks = [(libc.malloc(20_000), libc.malloc(100)) for _ in range(500)]  # what is small stays between
    for block, _ in blocks:
        ctypes.memset(block, 1, 20_000)
    for block, _ in blocks:
        libc.free(block)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
before = resident()
process.give_back_memory()
print((before - resident()) >> 20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 5

"""Stops threads of a process, one by one or many, until it dies: freeze.py PID TID...

A frozen thread is what a hang looks like to everybody else: it is there, and makes no step. Standard library
only, since it runs inside the box with the distribution's Python. Prints "frozen" when all stand still.
"""

from __future__ import annotations

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000  # __WALL: threads, too

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def main(threads: list[int]) -> None:
    for thread in threads:
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            if libc.ptrace(request, thread, None, None) != 0:
                raise OSError(ctypes.get_errno(), f"ptrace of {thread}")
        os.waitpid(thread, WALL)
    print("frozen", flush=True)
    # The tracer has to see them die, or the process stays a zombie.
    for thread in threads:
        status = None
        while status is None or not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            _, status = os.waitpid(thread, WALL)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])

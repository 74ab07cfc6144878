"""Start a program from a process so small that its own memory does not show in the program's.

    python -I -S bench/launch.py FILE COMMAND [ARGUMENT ...]

A child counts as its own what the parent had resident when it was made; so the parent has to be smaller than
any program worth measuring. Writes wall and processor seconds and KiB to FILE.
"""

import os
import sys
import time

began = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - began
with open(sys.argv[1], "w", encoding="ascii") as file:
    file.write(f"{wall} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}\n")
sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)

"""What people and their programs do in a folder, as shell commands, and what a folder holds afterwards.

Each command runs with the watched folder as its directory; ``$LIBRARY`` is a directory with some hundreds of
small files, ``$OUTSIDE`` an empty one that is not watched, on the same file system.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

LIBRARY = os.path.dirname(os.path.dirname(json.__file__))

_AS = "git -c user.name=a -c user.email=a@b"

WORKLOADS = {
    "tar x": 'tar -C "$LIBRARY" -cf - --exclude=__pycache__ json | tar xf -',
    "git clone": 'git init -q "$OUTSIDE/origin" && cp -r "$LIBRARY/json" "$OUTSIDE/origin" '
    f'&& cd "$OUTSIDE/origin" && git add . && {_AS} commit -qm x && cd "$OLDPWD" '
    f'&& git clone -q "$OUTSIDE/origin" clone && cd clone && echo x >> json/tool.py && {_AS} commit -qam y',
    "cp -a": 'cp -a "$LIBRARY/email" .',
    "mv of a directory": 'cp -a "$LIBRARY/json" one && sleep 0.4 && mv one two && echo more > two/more',
    "mv into the folder": 'cp -a "$LIBRARY/json" "$OUTSIDE/in" && mv "$OUTSIDE/in" inside '
    "&& echo x >> inside/__init__.py",
    "mv out and back": 'mkdir d && echo a > d/a && sleep 0.5 && mv d "$OUTSIDE/d" && echo b > "$OUTSIDE/d/b" '
    '&& mv "$OUTSIDE/d" e',
    "sed -i": "printf 'one\\ntwo\\n' > text && sleep 0.5 && sed -i s/two/three/ text",
    "rsync": 'rsync -a "$LIBRARY/json/" copy/ && rsync -a --inplace "$LIBRARY/email/" copy/',
    "an editor's save": "echo 1 > note && sleep 0.4 && echo 2 > .note.swp && cp note note~ "
    "&& mv .note.swp note",
    "hard link": 'echo x > "$OUTSIDE/elsewhere" && ln "$OUTSIDE/elsewhere" linked',
    "deep chain": "p=.; for i in $(seq 40); do p=$p/d$i; mkdir $p; echo $i > $p/f; done",
    "created and renamed at once": "for i in $(seq 50); do mkdir t$i; echo $i > t$i/f; mv t$i r$i; "
    "echo m > r$i/g; done",
    "a slow appender": "for i in $(seq 12); do echo line $i >> log; sleep 0.1; done",
}
"""By name. Each of them leaves at least one file."""


def do(folder: Path, outside: Path, command: str) -> None:
    """Run one of the commands to its end."""
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "LIBRARY": LIBRARY, "OUTSIDE": str(outside)},
        check=True,
        timeout=240,
        capture_output=True,
    )


def pip_install(target: Path, scratch: Path) -> None:
    """Have pip install a package of some thirty modules into `target`: unpacked, compiled, moved."""
    wheel = scratch / "pkg-1-py3-none-any.whl"
    files = {f"pkg/m{number}.py": f"x = {number}\n" for number in range(30)}
    files["pkg/__init__.py"] = ""
    files["pkg-1.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: pkg\nVersion: 1\n"
    files["pkg-1.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "pkg-1.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*command, str(wheel)], check=True, timeout=240, capture_output=True)


def tree(root: Path) -> dict[bytes, bytes]:
    """Every regular file below a directory: name as bytes, content. Without a `dir` store's own files."""
    found: dict[bytes, bytes] = {}
    top = os.fsencode(root)
    for directory, folders, files in os.walk(top):
        if b".syncd" in folders:
            folders.remove(b".syncd")
        for name in files:
            path = os.path.join(directory, name)
            if not os.path.islink(path) and os.path.isfile(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = file.read()
    return found

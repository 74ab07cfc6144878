"""Changes `core`, `state` and `transfer` in small ways, one at a time; each time a test has to fail.

    pip install -e '.[test,mutation]'
    python -m tests.torture.mutation [PATTERN ...]      # such as 'syncd.core.plan.*'; default: everything

mutmut makes the mutants in `mutants/`, and resumes there after an interruption; `pyproject.toml` says what it
changes and which tests it runs. The table at the end has a line for each module. `mutmut results` lists the
survivors, `mutmut show NAME` shows one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_MUTANTS = Path("mutants")
_SURVIVED = {0: "survived", 5: "no test", 33: "no test"}
"""Exit codes of the tests of a mutant, as mutmut notes them; every other one is a death."""


def counts() -> Iterator[tuple[str, Counter[str]]]:
    """Each module, and what became of its mutants."""
    for path in sorted(_MUTANTS.rglob("*.py.meta")):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        found = Counter(_SURVIVED.get(code, "killed") for code in codes if code is not None)
        if found:
            yield str(path.relative_to(_MUTANTS)).removesuffix(".meta"), found


def main() -> int:
    """Run mutmut, then print killed and all mutants of each module."""
    code = subprocess.run(["mutmut", "run", *sys.argv[1:]], check=False).returncode
    total: Counter[str] = Counter()
    for name, found in counts():
        total += found
        print(f"{name:32} {found['killed']:5} of {found.total():5} killed, {found['no test']} without a test")
    print(f"{'all':32} {total['killed']:5} of {total.total():5} killed, {total['no test']} without a test")
    return code


if __name__ == "__main__":
    sys.exit(main())

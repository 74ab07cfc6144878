"""What each hazard is met with, and the proof that the meeting matters.

A `Remedy` names a hazard, the lines of syncd that meet it, what the code would be without them, and the tests
that fail then. `python -m tests.torture.remedies` takes each remedy away in a copy of the project, one at a
time, and runs its tests there: a remedy whose tests still pass is not proven, and is told.

`tests/torture/remedies/test_remedies.py` keeps the catalogue itself true: every hazard has its remedy, every
line that is to be taken away is there, every test exists.
"""

from tests.torture.remedies.kinds import Edit, Remedy

__all__ = ["Edit", "Remedy"]

"""Exit codes, a promise to scripts and service managers.

0 done; 1 failed unexpectedly; 2 usage (click's own); 3 done, but some files failed; 69 store unreachable; 77
credentials refused; 78 configuration wrong, or the state is of a newer version; 130 interrupted.
"""

from __future__ import annotations

from syncd.core.errors import AccessRefused, ConfigError, StateTooNew, StoreError

EXIT_FAILED = 1
EXIT_PARTLY = 3
EXIT_UNAVAILABLE = 69
EXIT_CREDENTIALS = 77
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130


def exit_code(error: BaseException) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, ConfigError | StateTooNew):
        return EXIT_CONFIG
    if isinstance(error, AccessRefused):
        return EXIT_CREDENTIALS if error.credentials else EXIT_UNAVAILABLE
    if isinstance(error, StoreError):
        return EXIT_UNAVAILABLE
    return EXIT_FAILED

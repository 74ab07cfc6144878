"""The entry point of the program."""

from __future__ import annotations

import gc
import os
import signal
import sys

from syncd.cli import quick


def main() -> None:
    """The console script."""
    if sys.getfilesystemencoding() != "utf-8":  # the locale's; names are UTF-8 bytes in any locale
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  ourselves
    if sys.argv[1:2] == ["run"]:  # a reload during the start waits for its end
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if (code := quick.answered(sys.argv[1:], os.environ)) is not None:
        sys.exit(code)
    gc.disable()  # imports leave little garbage
    from syncd.cli.group import cli  # late: importing click takes longer than most answers

    cli()

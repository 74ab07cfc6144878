"""`syncd run`: the daemon, in the foreground."""

from __future__ import annotations

import os
import sys
from functools import partial

import click

from syncd.cli import common
from syncd.config.load import LogSettings
from syncd.daemon import logs
from syncd.daemon.daemon import Daemon


@click.command()
@common.options
def command(options: common.Options) -> None:
    """Run the daemon in the foreground; systemd starts this."""

    def set_up_logs(settings: LogSettings) -> None:
        logs.set_up(settings, verbosity=options.verbosity, stream=sys.stderr, waits=False)

    load = partial(options.load, with_token=True, log_waits=False)
    sys.exit(Daemon(load(), load, set_up_logs, os.environ).run())

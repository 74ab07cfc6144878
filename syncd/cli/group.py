"""The command group, which imports a command's module on its call."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from syncd import __version__
from syncd.cli import common

COMMANDS = {
    "run": ("run", "Run the daemon in the foreground; systemd starts this."),
    "sync": ("sync", "Upload everything that differs, in one pass, then exit."),
    "status": ("status", "Show what is recorded, pending, in flight and failed."),
    "explain": ("explain", "Say which rule includes or excludes a file, and why."),
    "pending": ("pending", "List the files that still have to be sent, and why."),
    "history": ("history", "List the last uploads, copies, deletions and failures."),
    "health": ("health", "Say in one word whether the daemon works."),
    "pause": ("pause", "Stop sending: from a source, to a store, or everything."),
    "resume": ("resume", "End a pause."),
    "flush": ("flush", "Send all known changes now, and wait for the end."),
    "rescan": ("rescan", "Scan a source now."),
    "retry": ("retry", "Try failed files again now."),
    "limit": ("limit", "Show or change the bandwidth limit of the running daemon."),
    "reload": ("reload", "Make the daemon read the configuration again."),
    "check": ("check.command", "Check configuration, stores and the kernel's limits."),
    "verify": ("verify", "Compare the stores with the records and the disk."),
    "restore": ("restore", "Bring files back from a store."),
    "adopt": ("adopt", "Record files that the store already has; send none."),
    "restamp": ("restamp", "Set the configured properties on existing objects."),
    "uploads": ("uploads", "List unfinished uploads, and orphans in the stores."),
    "install-service": ("install", "Write the systemd units for this installation."),
}
"""Each command: its module in `syncd.cli`, and its line in ``syncd --help``."""


class _Commands(click.Group):
    """A group whose commands are imported on demand, and whose errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"syncd.cli.{COMMANDS[cmd_name][0]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Also suggest a similar command."""
        if args and args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS, n=1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with common.errors_become_exit_codes():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syncd")
def cli() -> None:
    """Watch folders and upload their files to an object store."""

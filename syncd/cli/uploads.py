"""`syncd uploads`: unfinished uploads."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import click

from syncd.cli import common
from syncd.config import units
from syncd.config.load import Settings
from syncd.core.paths import printable
from syncd.transfer import orphans as unfinished


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    """A duration as in the configuration."""
    try:
        return units.parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"write {error}") from error


@click.command()
@click.option("--abort-orphans", is_flag=True, help="Abort old uploads that nothing here knows.")
@click.option(
    "--older-than",
    callback=_seconds,
    default="1d",
    show_default=True,
    metavar="DURATION",
    help="Abort only uploads that began longer ago.",
)
@common.json_option
@common.options
def command(options: common.Options, abort_orphans: bool, older_than: float, as_json: bool) -> None:
    """List unfinished uploads: ours, and orphans in the stores."""
    settings = options.load()
    if abort_orphans and not common.has_state(settings.state_dir):
        common.say(
            f"nothing is aborted: there is no state in {settings.state_dir}, so every upload would look like "
            "an orphan; run this as the user of the service and with its state directory (STATE_DIRECTORY)"
        )
        sys.exit(common.EXIT_CONFIG)
    found = list_uploads(settings, abort=abort_orphans, older_than_seconds=older_than)
    if as_json:
        common.print_json(found)
        return
    for row in found["ours"]:
        click.echo(
            f"ours    {row['source']}:{row['path']}: {row['bytes_done']} of {row['bytes_total']} bytes"
        )
    for row in found["orphans"]:
        fate = "aborted" if row["aborted"] else "not ours"
        if abort_orphans and row["spared"]:
            fate += f"; spared: {row['spared']}"
        click.echo(f"orphan  {row['store']}:{printable(row['key'])}: {printable(row['upload_id'])} ({fate})")
    if not found["ours"] and not found["orphans"]:
        click.echo("no unfinished uploads")


def list_uploads(settings: Settings, *, abort: bool, older_than_seconds: float) -> dict[str, Any]:
    """List unfinished uploads; with `abort`, abort old ones that no checkpoint knows."""
    orphans: list[dict[str, Any]] = []
    before_ns = time.time_ns() - int(older_than_seconds * 1e9)
    with common.open_state(settings.state_dir) as state:
        ours = [
            {
                "source": item.ref.source,
                "path": printable(item.ref.path),
                "key": item.key,
                "upload_id": item.upload_id,
                "bytes_done": sum(part.size for part in item.parts.values()),
                "bytes_total": item.fingerprint.size,
            }
            for item in unfinished.ours(state)
        ]
        for name in sorted({source.store for source in settings.sources}):
            sources = [source for source in settings.sources if source.store == name]
            with common.open_store(settings, name) as store:
                for orphan in unfinished.orphans(name, store, sources, state, before_ns=before_ns):
                    aborted = abort and not orphan.spared
                    if aborted:
                        store.abort_multipart_upload(orphan.upload.key, orphan.upload.upload_id)
                    fate = {"aborted": aborted, "spared": orphan.spared}
                    orphans.append({"store": name, **asdict(orphan.upload), **fate})
    return {"ours": ours, "orphans": orphans}

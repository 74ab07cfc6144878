"""`syncd uploads`: unfinished uploads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from syncd.cli import common
from syncd.config.load import Settings
from syncd.core.paths import printable
from syncd.transfer import orphans as unfinished


@click.command()
@click.option("--abort-orphans", is_flag=True, help="Abort the uploads that nothing here knows.")
@common.json_option
@common.options
def command(options: common.Options, abort_orphans: bool, as_json: bool) -> None:
    """List unfinished uploads: ours, and orphans in the stores."""
    found = list_uploads(options.load(), abort=abort_orphans)
    if as_json:
        common.print_json(found)
        return
    for row in found["ours"]:
        click.echo(
            f"ours    {row['source']}:{row['path']}: {row['bytes_done']} of {row['bytes_total']} bytes"
        )
    for row in found["orphans"]:
        fate = "aborted" if row["aborted"] else "not ours"
        click.echo(f"orphan  {row['store']}:{row['key']}: {row['upload_id']} ({fate})")
    if not found["ours"] and not found["orphans"]:
        click.echo("no unfinished uploads")


def list_uploads(settings: Settings, *, abort: bool) -> dict[str, Any]:
    """List unfinished uploads; with `abort`, abort those that no checkpoint knows."""
    orphans: list[dict[str, Any]] = []
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
                for orphan in unfinished.orphans(name, store, sources, state):
                    if abort:
                        store.abort_multipart_upload(orphan.upload.key, orphan.upload.upload_id)
                    orphans.append({"store": name, **asdict(orphan.upload), "aborted": abort})
    return {"ours": ours, "orphans": orphans}

"""`syncd uploads`: unfinished uploads."""

from __future__ import annotations

import sys
from typing import Any

import click
from msgspec.structs import asdict

from syncd.cli import asking, common
from syncd.config.load import Settings
from syncd.core.errors import AccessRefused, StoreError, StoreUnavailable
from syncd.core.model import Checkpoint
from syncd.core.paths import printable
from syncd.core.words import counted
from syncd.storage.base import ObjectStore
from syncd.transfer.in_doubt import waits_for_others
from syncd.transfer.upload import orphans as unfinished


@click.command()
@click.option("--abort-orphans", is_flag=True, help="Abort old uploads without a record.")
@asking.duration_option(
    "--older-than",
    default="1d",
    show_default=True,
    help="Abort only uploads that began longer ago than this.",
)
@common.json_option
@common.options
def command(options: common.Options, abort_orphans: bool, older_than: float, as_json: bool) -> None:
    """List unfinished uploads, and orphans in the stores."""
    settings = options.load()
    if abort_orphans and not common.has_state(settings.state_dir):
        common.say(
            f"nothing is aborted: there is no state in {settings.state_dir}, so every upload would look like "
            "an orphan; run this as the user of the service and with its state directory (STATE_DIRECTORY)"
        )
        sys.exit(common.EXIT_CONFIG)
    errors: dict[str, StoreError] = {}
    found = list_uploads(settings, errors, abort=abort_orphans, older_than_seconds=older_than)
    if as_json:
        common.print_json(found)
    else:
        _print(found, abort=abort_orphans)
    for name, error in found["errors"].items():
        common.say(f"store {name}: its uploads cannot be listed: {error}")
    unusable = [each for each in errors.values() if isinstance(each, StoreUnavailable | AccessRefused)]
    sys.exit(next(map(common.exit_code, unusable), common.EXIT_PARTLY if errors else 0))


def _print(found: dict[str, Any], *, abort: bool) -> None:
    for row in found["ours"]:
        size = counted(row["bytes_total"], "byte")
        click.echo(f"ours    {row['source']}:{row['path']}: {row['bytes_done']} of {size}")
    for row in found["left"]:
        click.echo(
            f"left    {row['store']}:{printable(row['key'])}: to be aborted by the daemon or the next sync"
        )
    for row in found["orphans"]:
        fate = "aborted" if row["aborted"] else "not ours"
        if abort and row["spared"]:
            fate += f"; spared: {row['spared']}"
        click.echo(f"orphan  {row['store']}:{printable(row['key'])}: {printable(row['upload_id'])} ({fate})")
    if not (found["ours"] or found["left"] or found["orphans"] or found["errors"]):
        click.echo("no unfinished uploads")


def list_uploads(
    settings: Settings, errors: dict[str, StoreError], *, abort: bool, older_than_seconds: float
) -> dict[str, Any]:
    """List unfinished uploads; with `abort`, abort old ones that no checkpoint knows.

    `errors` gets the error of each store that cannot list its uploads, and ``errors`` its words. What the
    state knows is always listed.
    """
    found: dict[str, Any] = {"ours": [], "left": [], "orphans": [], "errors": {}}
    with common.open_state(settings.state_dir) as state:
        found["ours"] = [_checkpoint(item) for item in unfinished.ours(state)]
        for name in sorted({source.store for source in settings.sources}):
            sources = [source for source in settings.sources if source.store == name]
            try:
                with common.open_store(settings, name) as store:
                    left = state.checkpoints.leftovers(store.store_id)
                    found["left"] += [
                        {"store": name, "key": each.key, "upload_id": each.upload_id} for each in left
                    ]
                    known = {each.upload_id for each in left}
                    shared = [each.name for each in sources if waits_for_others(each, store.store_id, state)]
                    for orphan in unfinished.orphans(
                        name, store, sources, state, older_seconds=older_than_seconds, shared=shared
                    ):
                        if orphan.upload.upload_id not in known:
                            found["orphans"].append(_orphan(name, store, orphan, abort=abort))
            except StoreError as error:
                errors[name] = error
                found["errors"][name] = str(error)
    return found


def _checkpoint(item: Checkpoint) -> dict[str, Any]:
    return {
        "source": item.ref.source,
        "path": printable(item.ref.path),
        "key": item.key,
        "upload_id": item.upload_id,
        "bytes_done": sum(part.size for part in item.parts.values()),
        "bytes_total": item.fingerprint.size,
    }


def _orphan(name: str, store: ObjectStore, orphan: unfinished.Orphan, *, abort: bool) -> dict[str, Any]:
    aborted = abort and not orphan.spared
    if aborted:
        store.abort_multipart_upload(orphan.upload.key, orphan.upload.upload_id)
    return {"store": name, **asdict(orphan.upload), "aborted": aborted, "spared": orphan.spared}

"""`syncd explain`: which rule takes or leaves a file, what is recorded, what would be done and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from syncd.cli import asking, common
from syncd.core.paths import one_line, printable
from syncd.core.words import human


@click.command()
@click.argument("path")
@common.json_option
@common.options
def command(options: common.Options, path: str, as_json: bool) -> None:
    """Say which rule takes or leaves a file, and why.

    PATH may be excluded or missing. The first line is that of `syncd status PATH`.
    """
    found = asking.of_path(options, path)
    if as_json:
        common.print_json(found)
    else:
        click.echo(asking.line(found))
        for name, text in details(found):
            click.echo(f"{name:<10} {one_line(text)}")  # the ETag is the store's


def details(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known, each with its heading."""
    rule, disk, recorded = found["rule"], found["disk"], found["recorded"]
    where = f" ({rule['where']})" if rule["where"] else ""
    at = f"; it matches {rule['matches']}" if rule["matches"] not in (None, found["path"]) else ""
    yield "path", f"{found['source']}:{found['path']}"
    yield "key", f"{printable(found['key'])} in store {found['store']}"
    yield "rule", f"{'taken' if rule['wanted'] else 'left out'}: {rule['text']}{where}{at}"
    there = f"{human(disk['size'])}, modified {disk['modified']}" if disk else "no regular file is there"
    yield "disk", there
    if recorded:
        what = f"{human(recorded['size'])}, xxh128 {recorded['xxh128']}"
        what += f", ETag {recorded['etag']}" if recorded["etag"] else ", in doubt"
        yield "recorded", f"{printable(recorded['key'])} since {recorded['since']}: {what}"
    else:
        yield "recorded", "nothing"
    if unfinished := found["unfinished"]:
        share = f"{human(unfinished['bytes_done'])} of {human(unfinished['bytes_total'])}"
        yield "upload", f"{share} have arrived"
    if failure := found["failure"]:
        yield "failure", f"{failure['error']} (attempts: {failure['attempts']})"
    yield "next", found["next"]

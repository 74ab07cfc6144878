"""Which checks `syncd check` runs, basic or thorough, and the exit code."""

from __future__ import annotations

import sys
from typing import Any

import click

from syncd.cli import common
from syncd.cli.check import conditions, digests, machine, others, probes, version_keys
from syncd.cli.common import Reporter
from syncd.config.load import Settings
from syncd.core.errors import StoreError
from syncd.core.paths import one_line
from syncd.storage.base import DOUBLED, ObjectStore, Remarks


@click.command()
@click.option("--config-only", is_flag=True, help="Only read the configuration; ask no store.")
@click.option("--thorough", is_flag=True, help="Try every operation on test objects, then remove them.")
@common.json_option
@common.options
def command(options: common.Options, config_only: bool, thorough: bool, as_json: bool) -> None:
    """Check configuration, stores and the kernel's limits.

    Every check is one line: ok, FAIL or note, and what to change.
    """
    settings = options.load(with_secrets=not config_only, with_sources=False, with_token=not config_only)
    rows: list[dict[str, Any]] = []

    def report(name: str, passed: bool | None, detail: str) -> None:
        rows.append({"check": name, "passed": passed, "detail": detail})
        if not as_json and not (config_only and options.quiet):
            mark = {True: "ok  ", False: "FAIL", None: "note"}[passed]
            click.echo(f"{mark} {name}: {one_line(detail)}")  # it may quote the store

    if config_only:
        with_keys = any(hasattr(store, "keys") for store in settings.stores.values())
        right = f"{settings.path} is right" + ("; keys were not checked" if with_keys else "")
        report("configuration", True, right)
        code = 0
    else:
        code = check(settings, report, thorough=thorough)
    if as_json:
        common.print_json({"checks": rows})
    sys.exit(code)


def check(settings: Settings, report: Reporter, *, thorough: bool) -> int:
    """Run every check; return the exit code, that of the worst store error if there is one."""
    codes = [0]
    examine = check_thoroughly if thorough else check_basics

    def noted(name: str, passed: bool | None, detail: str) -> None:
        if passed is False:
            codes.append(common.EXIT_FAILED)
        report(name, passed, detail)

    machine.directories(settings.sources, settings.state_dir, noted)
    machine.patterns_and_watches(settings.sources, noted)
    for name in sorted({source.store for source in settings.sources} or settings.stores):
        sources = [source for source in settings.sources if source.store == name]
        prefix = sources[0].prefix if sources else ""
        named = _named(name, noted)
        try:
            doubled = thorough and version_keys.examine(settings, name, named)
            spelling = (lambda store_id: DOUBLED) if doubled else None
            with common.open_store(settings, name, version_keys=spelling) as store:
                examine(store, prefix, named)
                for remark in store.remarks() if isinstance(store, Remarks) else ():
                    named("file system", None, remark)
                if thorough:
                    conditions.examine(store, name, prefix, settings.state_dir, named)
                digests.examine(probes.Bench(store, prefix, named), name, settings.state_dir, named)
                others.check(store, settings.state_dir, sources, noted)
        except StoreError as error:
            codes.append(common.exit_code(error))
            report(f"store {name}", False, str(error))
    return max(codes)


def _named(store: str, report: Reporter) -> Reporter:
    return lambda what, passed, detail: report(f"{store}: {what}", passed, detail)


def check_basics(store: ObjectStore, prefix: str, report: Reporter) -> None:
    """Put, look at and delete one tiny object under `prefix`: four small requests.

    Raises StoreUnavailable and AccessRefused, which concern the whole store; errors of only this object are
    reported.
    """
    bench = probes.Bench(store, prefix, report)
    try:
        bench.run("reachable", probes.reachable)
        bench.run("writable", probes.writable)
    except StoreError:
        bench.clean()
        raise


def check_thoroughly(store: ObjectStore, prefix: str, report: Reporter) -> None:
    """The basics, then every probe: about 50 MB of traffic.

    It finds out what documents leave open: the smallest part that the store takes, the answer to a repeated
    complete, whether the store honours conditions and checksums. Everything made is removed, also if a probe
    fails. An odd answer is a finding, and the next probe runs. Raises StoreUnavailable and AccessRefused if
    the store stops answering.
    """
    check_basics(store, prefix, report)
    bench = probes.Bench(store, prefix, report)
    try:
        for name, probe in probes.PROBES:
            bench.go_on(name, probe)
    finally:
        left = bench.clean()
        detail = f"remove by hand: {', '.join(left)}" if left else "nothing is left"
        report("cleaned up", not left, detail)

"""The text that Prometheus reads: promtool finds no fault, and the values are those of the status."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from syncd.daemon.http import metrics
from syncd.daemon.live import Measured
from syncd.daemon.status import (
    ByteCounts,
    DaemonStatus,
    FileCounts,
    LiveSource,
    SourceReport,
    Status,
    StoreReport,
    WatchStatus,
)
from syncd.transfer.pace.progress import Durations

DOCS = Path(__file__).parents[4] / "docs"

LIVE = LiveSource(
    deletes_parked=3,
    never_quiet=["a.log"],
    watch=WatchStatus("events", 12, 1, None, ["deep"]),
    oldest_pending="2026-01-01T00:00:00Z",
    last_upload="2026-01-01T00:00:01Z",
    actions={"upload": 5, "refresh": 1},
    failures={"auth": 2},
    bytes_sent=100,
    saved={"copy": 50},
    rescan_seconds=3600.0,
)
AWAY = LiveSource(waiting_for="/a/path is not there")
STATUS = Status(
    DaemonStatus(True, 42, 1.5, "ok", bandwidth_limit=1 << 20),
    [
        SourceReport(
            "docs", "/srv/docs", "nas", FileCounts(7, 6, 5, 4), ByteCounts(700, 60),
            "2026-01-01T00:00:02Z", 9, live=LIVE,
        ),
        SourceReport(
            'odd"\\name', "/srv/odd", "bos", FileCounts(0, 0, 0, 0), ByteCounts(0, 0),
            None, 0, paused="by the operator", live=AWAY,
        ),
    ],
    [],
    [],
    {},
    [StoreReport("nas", None, 70), StoreReport("bos", "/a/path: refused", 3)],
)  # fmt: skip


DURATIONS = Durations((0.5, 2.0))
for seconds in (0.1, 0.5, 1.0, 7.0):
    DURATIONS.add(seconds)
MEASURED = Measured(
    {"bos": {("put", "2xx"): 5, ("put", "none"): 1}}, {"bos": {"put": DURATIONS}}, {"docs": DURATIONS}
)


def rendered(status: Status = STATUS, *, lives: bool = True) -> str:
    return metrics.render(status, MEASURED, lives=lives, started_seconds=1_767_225_600.5).decode()


def test_promtool_finds_no_fault(promtool: Callable[..., str]) -> None:
    """Names, units, types and help are as Prometheus wants them."""
    assert promtool("check", "metrics", told=rendered()) == ""


@pytest.mark.parametrize(
    "line",
    [
        'syncd_files{source="docs",state="stored"} 7',
        'syncd_files{source="docs",state="pending"} 6',
        'syncd_files{source="docs",state="uploading"} 5',
        'syncd_files{source="docs",state="failed"} 4',
        'syncd_files{source="odd\\"\\\\name",state="failed"} 0',
        'syncd_files_bytes{source="docs",state="stored"} 700',
        'syncd_files_bytes{source="docs",state="uploading"} 60',
        'syncd_pending_oldest_timestamp_seconds{source="docs"} 1767225600',
        'syncd_last_upload_timestamp_seconds{source="docs"} 1767225601',
        'syncd_last_scan_timestamp_seconds{source="docs"} 1767225602',
        'syncd_rescan_interval_seconds{source="docs"} 3600',
        'syncd_source_up{source="docs"} 1',
        'syncd_source_up{source="odd\\"\\\\name"} 0',
        'syncd_source_paused{source="docs"} 0',
        'syncd_source_paused{source="odd\\"\\\\name"} 1',
        'syncd_store_up{store="nas"} 1',
        'syncd_store_up{store="bos"} 0',
        'syncd_requests_total{store="bos",operation="put",outcome="2xx"} 5',
        'syncd_requests_total{store="bos",operation="put",outcome="none"} 1',
        'syncd_request_seconds_bucket{store="bos",operation="put",le="0.5"} 2',
        'syncd_request_seconds_bucket{store="bos",operation="put",le="2"} 3',
        'syncd_request_seconds_bucket{store="bos",operation="put",le="+Inf"} 4',
        'syncd_request_seconds_count{store="bos",operation="put"} 4',
        'syncd_request_seconds_sum{store="bos",operation="put"} 8.6',
        'syncd_file_delay_seconds_bucket{source="docs",le="0.5"} 2',
        'syncd_actions_total{source="docs",action="upload"} 5',
        'syncd_actions_total{source="docs",action="delete"} 0',
        'syncd_failures_total{source="docs",class="auth"} 2',
        'syncd_failures_total{source="docs",class="throttled"} 0',
        'syncd_saved_bytes_total{source="docs",cause="resume"} 0',
        'syncd_sent_bytes_total{source="docs"} 100',
        'syncd_saved_bytes_total{source="docs",cause="copy"} 50',
        'syncd_deletes_parked{source="docs"} 3',
        'syncd_files_never_quiet{source="docs"} 1',
        'syncd_watches{source="docs"} 12',
        'syncd_unwatched_folders{source="docs"} 1',
        'syncd_watch_overflows_total{source="docs"} 1',
        'syncd_drift_files_total{source="docs"} 9',
        "syncd_bandwidth_limit_bytes_per_second 1048576",
        "syncd_healthy 1",
        "process_start_time_seconds 1767225600.5",
    ],
)
def test_the_values_are_those_of_the_status(line: str) -> None:
    """One line each."""
    assert line in rendered().splitlines()


def test_what_is_not_known_is_left_out_and_what_is_unlimited_is_infinite() -> None:
    """A timestamp that never was is not zero."""
    text = rendered(Status(DaemonStatus(True, health="worker-7 is stuck"), STATUS.sources[1:], [], [], {}))
    for name in ("pending_oldest", "last_upload", "last_scan"):
        assert f"\nsyncd_{name}_timestamp_seconds{{" not in text
    assert "syncd_bandwidth_limit_bytes_per_second +Inf" in text
    assert "syncd_healthy 0" in text
    assert "syncd_healthy 0" in rendered(lives=False)


@pytest.mark.parametrize(
    ("paused", "trouble", "expected"),
    [({}, None, 0), ({"nas": "by the operator"}, None, 1), ({"nas": "no route"}, "no route", 0)],
)
def test_a_source_is_paused_with_its_store_but_not_by_trouble(
    paused: dict[str, str], trouble: str | None, expected: int
) -> None:
    """Files that wait because a person paused them raise no alert."""
    daemon, stores = DaemonStatus(True, stores_paused=paused), [StoreReport("nas", trouble)]
    text = rendered(Status(daemon, STATUS.sources[:1], [], [], {}, stores))
    assert f'syncd_source_paused{{source="docs"}} {expected}\n' in text


def test_no_path_and_no_reason_is_told() -> None:
    """One without the token reads them."""
    assert "/" not in "".join(line for line in rendered().splitlines() if not line.startswith("#"))


def test_the_process_is_measured() -> None:
    """Memory, processor time and descriptors of this one."""
    values = dict(line.split(" ") for line in rendered().splitlines() if line.startswith("process_"))
    assert 1 << 20 < int(values["process_resident_memory_bytes"]) < 1 << 40
    assert 0 < float(values["process_cpu_seconds_total"]) <= time.process_time()
    assert 3 < int(values["process_open_fds"]) <= int(values["process_max_fds"])


# ---- what is built on them --------------------------------------------------------------------------------


def names(text: str) -> set[str]:
    """The metrics that a text names."""
    return set(re.findall(r"\b(?:syncd|process)_[a-z_]+[a-z]\b", text))


def test_alerts_fire_when_they_should(promtool: Callable[..., str]) -> None:
    """The rules are rules, and time passes over them."""
    promtool("check", "rules", str(DOCS / "alerts.yml"))
    promtool("test", "rules", str(Path(__file__).with_name("alerts.test.yml")))


def test_each_alert_is_tried_and_uses_what_is_there() -> None:
    """A metric that is renamed would silence its alert."""
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    used = set().union(*(names(rule["expr"]) for rule in rules))
    assert used <= names(rendered())
    assert len(used) > 9
    tests = yaml.safe_load(Path(__file__).with_name("alerts.test.yml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if "exp_alerts" in each}
    assert fired == {rule["alert"] for rule in rules}


def test_the_dashboard_asks_for_what_is_there(promtool: Callable[..., str], tmp_path: Path) -> None:
    """Prometheus reads each query, and the daemon has every metric in it; no panel has two names."""
    board = json.loads((DOCS / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [each["expr"] for each in board["annotations"]["list"]]
    asked = queries + [each["query"]["query"] for each in board["templating"]["list"][1:]]
    used = set().union(*map(names, asked))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in used} <= names(rendered())
    assert len(used) > 15
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yml"))
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles) == len({panel["id"] for panel in board["panels"]})


def test_the_manual_explains_every_metric_and_no_other() -> None:
    """In its table."""
    table = [line.split("|")[1] for line in (DOCS / "metrics.md").read_text().splitlines() if "|" in line]
    explained = names("\n".join(table))
    there = {line.split()[2] for line in rendered().splitlines() if line.startswith("# TYPE ")}
    assert {name for name in there if not name.startswith("process_")} == explained

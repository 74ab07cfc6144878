"""The real daemon is killed some hundred times behind a network that fails; nothing is lost, nothing is torn.

Three people's programs work in the folder all the while, each with a seed. Who writes a file notes every
state before it can be seen; a judge reads the store by another way and looks each object up.

    SYNCD_CAMPAIGN_KILLS=600 SYNCD_CAMPAIGN_SEED=7 python -m pytest -n 0
    tests/torture/campaign/test_campaign.py

The seed decides the moments of the kills, the fault of the nth request and what the writers do; which of them
come together is up to the machine. A run that fails leaves daemon.log, requests.jsonl (every request and what
was done to it), lives.json, states.log and the torn objects in its directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.process import Syncd, bos_store, s3_store, wait_until
from tests.support.bos_server import BosServer
from tests.support.compare import differences_by_rclone
from tests.support.fault_ledger import Ledger
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import S3Server
from tests.support.shelves import BosShelf, BucketShelf, DirectoryShelf
from tests.support.states import LoggedStates
from tests.torture.campaign.campaign import (
    CONCURRENCY,
    PART_SIZE,
    PREFIX,
    STALL_SECONDS,
    TIMEOUTS,
    Campaign,
    Chooser,
    Report,
    Writers,
)
from tests.torture.campaign.judge import Judge

KILLS = int(os.environ.get("SYNCD_CAMPAIGN_KILLS", "130"))
"""In all; the stores share them."""
SEED = int(os.environ.get("SYNCD_CAMPAIGN_SEED", "1"))
SHARES = {"ceph": 0.45, "bos": 0.45, "dir": 0.1}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 10 * KILLS)]

Figure = Callable[[str, object], None]


def _syncd(root: Path, store: dict[str, object]) -> Syncd:
    (root / "watched").mkdir()
    source = {"name": "w", "path": "./watched", "store": "there", "prefix": PREFIX, "settle": "100ms"}
    bounds = {"part_size": f"{PART_SIZE >> 20}MiB", "concurrency": CONCURRENCY}
    return Syncd(root, {"there": store}, [source], transfer=bounds)


def _kills(store: str) -> int:
    return max(1, round(KILLS * SHARES[store]))


def _story(campaign: Campaign) -> str:
    return f"SYNCD_CAMPAIGN_SEED={SEED} SYNCD_CAMPAIGN_KILLS={KILLS}; see {campaign.syncd.root}"


def _judge(campaign: Campaign, report: Report, store: str, figure: Figure) -> None:
    """What holds whatever the store is."""
    story = _story(campaign)
    assert report.torn == [], story
    assert report.deleted == [], story
    assert report.differences == [], story
    assert report.failures == [], story
    assert report.unfinished == [], story
    assert report.ended_early == [], f"{story}\n{campaign.syncd.log_text()}"
    assert report.integrity == [], story
    assert report.kills == _kills(store), story
    assert report.looks > 0
    assert report.compared > report.kills, story
    figure(f"campaign, {store}: kills", report.kills)
    figure(f"campaign, {store}: faults injected: {report.faults}", sum(report.faults.values()))
    figure(f"campaign, {store}: operations of the writers", report.operations)
    figure(f"campaign, {store}: states of files", report.states)
    figure(f"campaign, {store}: objects compared while it ran", report.compared)
    figure(f"campaign, {store}: torn objects seen", len(report.torn))
    figure(f"campaign, {store}: files lost", len(report.differences))
    figure(f"campaign, {store}: looks at the state while it was written", report.looks)
    figure(f"campaign, {store}: minutes", round(report.minutes, 1))


def _account(campaign: Campaign, ledger: Ledger, store: str, figure: Figure) -> None:
    """Every byte that was sent has its reason.

    Content that the server got is divided by the proxy into five: acknowledged for the first time at its
    place (useful), acknowledged again there (repeated), cut or answered falsely by a fault, cut because the
    client had gone, and refused by the server. Then:

    - *useful*: of each key, at most the sizes of the states that its file has had;
    - *repeated*: a process that is killed may have forgotten at most what it was told last by each of its
      `CONCURRENCY` requests in flight, since none of them sends again before it has written that down. So at
      most the sizes of the last `CONCURRENCY` bodies that were acknowledged before each kill;
    - *cut by the client*: at most a part for each request in flight at a kill;
    - *cut by faults* are those that the proxy did, one body each.
    """
    story, sent, kills = _story(campaign), ledger.bytes, campaign.report.kills
    assert sent.forwarded == (
        sent.useful + sent.repeated + sent.lost_to_faults + sent.lost_to_clients + sent.refused
    )
    for key, useful in sent.useful_by_key.items():
        states = campaign.known.of(key.removeprefix(PREFIX))
        assert useful <= sum(size for size, _ in states), f"{key}: {story}"
    assert sent.repeated <= ledger.at_risk, f"{story}\n{ledger.repeats}"
    assert sent.lost_to_clients <= kills * CONCURRENCY * PART_SIZE, story
    assert sent.lost_to_faults <= sum(ledger.faults.values()) * PART_SIZE, story
    assert sent.useful > 0
    figure(f"campaign, {store}: MiB sent", sent.forwarded >> 20)
    figure(f"campaign, {store}: bytes sent over bytes needed", round(sent.forwarded / sent.useful, 3))
    figure(
        f"campaign, {store}: of these sent again after a kill / cut by faults / cut by kills (MiB)",
        f"{sent.repeated / 2**20:.1f} / {sent.lost_to_faults >> 20} / {sent.lost_to_clients >> 20}",
    )


@pytest.mark.real_server
def test_campaign_against_ceph(ceph_server: S3Server, tmp_path: Path, figure: Figure) -> None:
    """A real gateway behind a failing network; in the end rclone compares, too."""
    ceph_server.make_bucket("campaign")
    choose = Chooser(SEED)
    with FaultProxy(("127.0.0.1", ceph_server.port), choose, seed=SEED, stall_seconds=STALL_SECONDS) as proxy:
        store = s3_store(ceph_server.settings("campaign"), proxy.port)
        syncd = _syncd(tmp_path, {**store, **TIMEOUTS})
        campaign = Campaign(syncd, BucketShelf(ceph_server, "campaign"), SEED, proxy=proxy, calm=choose.rest)
        try:
            report = campaign.run(_kills("ceph"))
        finally:
            syncd.close()
    _judge(campaign, report, "ceph", figure)
    _account(campaign, proxy.ledger, "ceph", figure)
    assert differences_by_rclone(campaign.folder, ceph_server, "campaign", PREFIX, "--one-way") == []


def test_campaign_against_bos(bos_server: BosServer, tmp_path: Path, figure: Figure) -> None:
    """The strict BOS server in the same place; its own disk says what it has."""
    bos_server.disk.create("campaign")
    choose = Chooser(SEED)
    with FaultProxy(("127.0.0.1", bos_server.port), choose, seed=SEED, stall_seconds=STALL_SECONDS) as proxy:
        syncd = _syncd(tmp_path, {**bos_store(bos_server, "campaign", proxy.port), **TIMEOUTS})
        campaign = Campaign(syncd, BosShelf(bos_server, "campaign"), SEED, proxy=proxy, calm=choose.rest)
        try:
            report = campaign.run(_kills("bos"))
        finally:
            syncd.close()
    _judge(campaign, report, "bos", figure)
    _account(campaign, proxy.ledger, "bos", figure)


def test_campaign_against_a_directory(tmp_path: Path, figure: Figure) -> None:
    """A directory as the store: no network, but the process dies between any two of its system calls."""
    (tmp_path / "mirror").mkdir()
    syncd = _syncd(tmp_path, {"type": "dir", "path": "./mirror"})
    campaign = Campaign(syncd, DirectoryShelf(tmp_path / "mirror"), SEED)
    try:
        report = campaign.run(_kills("dir"))
    finally:
        syncd.close()
    _judge(campaign, report, "dir", figure)


def test_files_that_are_rewritten_all_the_time(tmp_path: Path) -> None:
    """No process is killed here, but writes and reads meet as often as can be: no object is a mixture."""
    (tmp_path / "mirror").mkdir()
    syncd = _syncd(tmp_path, {"type": "dir", "path": "./mirror"})
    states = tmp_path / "states.log"
    states.touch()
    shelf, known = DirectoryShelf(tmp_path / "mirror"), LoggedStates(states)
    writers = Writers(tmp_path / "watched", states, SEED, {f"sql{number}": "database" for number in range(5)})
    with Judge(shelf, known, lambda key: key.removeprefix(PREFIX), tmp_path / "torn") as judge, writers:
        try:
            syncd.start()
            wait_until("enough are compared", lambda: judge.verdict.compared + len(judge.verdict.torn) >= 150)
        finally:
            syncd.close()
    assert judge.verdict.torn == [], f"SYNCD_CAMPAIGN_SEED={SEED}; see {tmp_path}"

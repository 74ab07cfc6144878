"""The daemon against real servers: people work in the folder, keys are wrong for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Syncd, bos_store, s3_store, wait_until
from tests.e2e.workloads import WORKLOADS, do, pip_install, tree
from tests.support.bos_server import BosServer
from tests.support.compare import differences, differences_by_rclone
from tests.support.servers import S3Server
from tests.support.shelves import BucketShelf

SETTLE = "200ms"


@pytest.fixture
def make_syncd(tmp_path: Path) -> Iterator[Callable[..., Syncd]]:
    """Makes one configuration; its processes are ended after the test."""
    made: list[Syncd] = []

    def make(*arguments: object) -> Syncd:
        made.append(Syncd(tmp_path, *arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for syncd in made:
        syncd.close()


def _work(folder: Path, outside: Path, failures: list[BaseException]) -> list[threading.Thread]:
    """Everybody at once, each in a directory of his own below `folder`."""
    jobs: dict[str, Callable[[Path, Path], None]] = {
        name: lambda inside, apart, command=command: do(inside, apart, command)  # type: ignore[misc]
        for name, command in WORKLOADS.items()
    }
    jobs["pip"] = lambda inside, apart: pip_install(inside / "site", apart)

    def run(name: str) -> None:
        inside, apart = folder / name, outside / name
        inside.mkdir()
        apart.mkdir(parents=True)
        try:
            jobs[name](inside, apart)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,), name=name) for name in jobs]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.slow
@pytest.mark.real_server
def test_what_people_do_in_a_folder_arrives_in_a_bucket(
    ceph_server: S3Server, make_syncd: Callable[..., Syncd], tmp_path: Path
) -> None:
    """They all work at once while the daemon follows; in the end the bucket has what the folder has."""
    ceph_server.make_bucket("work")
    folder = tmp_path / "watched"
    folder.mkdir()
    source = {"name": "work", "path": "./watched", "store": "ceph", "prefix": "w/", "settle": SETTLE}
    syncd = make_syncd({"ceph": s3_store(ceph_server.settings("work"))}, [source])
    syncd.start()

    failures: list[BaseException] = []
    for worker in _work(folder, tmp_path / "outside", failures):
        worker.join()
    assert failures == []
    want = len(tree(folder))
    assert want > 400
    shelf = BucketShelf(ceph_server, "work")
    wait_until("all are there", lambda: differences(folder, shelf, "w/") == [], pause=1)

    assert differences_by_rclone(folder, ceph_server, "work", "w/", "--one-way") == []
    status = syncd.wait_idle()
    assert status["failures"] == []
    assert syncd.stop() == 0
    assert "nothing to do; 0 bytes sent" in syncd.command("sync").stdout


@pytest.mark.slow
@pytest.mark.real_server
def test_a_wrong_key_is_said_once_and_a_right_one_needs_no_restart(
    ceph_server: S3Server, bos_server: BosServer, make_syncd: Callable[..., Syncd], tmp_path: Path
) -> None:
    """A store with a wrong secret in its file pauses and says so once; with the right one it goes on."""
    ceph_server.make_bucket("keys")
    bos_server.disk.create("keys")
    stores = {"ceph": s3_store(ceph_server.settings("keys")), "bos": bos_store(bos_server, "keys")}
    right = {name: store.pop("secret_access_key") for name, store in stores.items()}
    sources = []
    for name, store in stores.items():
        store["secret_key_file"] = f"./{name}.secret"
        (tmp_path / f"{name}.secret").write_text("this is not the right one\n")
        (tmp_path / name).mkdir()
        sources.append({"name": name, "path": f"./{name}", "store": name, "settle": SETTLE})
        for number in range(30):
            (tmp_path / name / f"f{number}").write_text(f"{name} {number}")
    syncd = make_syncd(stores, sources)
    syncd.start()

    def paused() -> bool:
        return all(f"store {name}: paused: " in syncd.log_text() for name in stores)

    wait_until("both stores pause", paused)
    assert ceph_server.keys("keys") == []
    assert bos_server.contents("keys")["objects"] == {}
    for entry in syncd.status()["sources"]:
        assert entry["files"]["recorded"] == 0
        assert entry["files"]["pending"] + entry["files"]["in_flight"] + entry["files"]["failed"] >= 30
    for name, secret in right.items():
        new = tmp_path / f"{name}.new"
        new.write_text(secret)
        os.replace(new, tmp_path / f"{name}.secret")
    syncd.command("retry", "store:ceph")  # by itself it asks within a minute: the breaker
    syncd.command("retry", "store:bos")
    wait_until(
        "all are carried",
        lambda: [entry["files"]["recorded"] for entry in syncd.status()["sources"]] == [30, 30],
        pause=1,
    )

    log = syncd.log.read_text()
    for name in stores:
        assert log.count(f"store {name}: paused: ") == 1
        assert log.count(f"store {name}: works again") == 1
        assert log.count("refused") + log.count("SignatureDoesNotMatch") < 10
    assert sorted(bos_server.contents("keys")["objects"]) == sorted(f"f{number}" for number in range(30))
    assert differences(tmp_path / "ceph", BucketShelf(ceph_server, "keys"), "") == []
    assert syncd.status()["failures"] == []

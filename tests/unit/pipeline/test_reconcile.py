"""Objects that are there already are recorded, not sent."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from syncd.core.errors import AccessRefused, StoreError, StoreUnavailable
from syncd.core.model import OnDelete
from tests.support.store import SMALL_LIMITS, VERBS, FakeStore
from tests.support.waiting import wait_until
from tests.unit.pipeline.house import House


def test_an_empty_store_is_asked_once_not_once_a_file(house: House) -> None:
    """The first sync into an empty bucket costs one request more than its files."""
    house.write(*(f"f{number}" for number in range(20)))
    house.start()
    house.settle()
    assert house.rig.fake.calls["head_object"] == 0
    assert house.rig.fake.calls["list_objects"] == 1
    assert not house.rig.engine.sources["docs"].reconciling


def lose_state(house: House) -> None:
    house.stop()
    house.rig.close()
    for path in house.rig.state_dir.iterdir():
        path.unlink()
    house.rig.fake.reset_counters()
    house.rig.open()
    house.rig.now_ns = lambda: time.time_ns() + 10**10
    house.open()


def test_after_the_loss_of_the_state_nothing_is_sent_again(house: House) -> None:
    """Each object is asked for, and recorded as it is; then that is over, for good."""
    names = [f"f{number}" for number in range(20)]
    house.write(*names)
    house.start()
    house.settle()
    lose_state(house)
    house.rig.write("new", b"nothing of the others")
    house.start()
    house.settle()
    assert house.rig.state.recorded_totals("docs")[0] == 21
    assert house.rig.fake.bytes_received == len(b"nothing of the others")
    assert not house.rig.engine.sources["docs"].reconciling
    house.restart()
    house.rig.fake.reset_counters()
    house.write("newer")
    house.runner.ask("", "look")
    wait_until("it is there", lambda: "newer" in house.objects)
    assert house.rig.fake.calls["head_object"] == 0
    assert house.rig.fake.calls["list_objects"] == 0


def test_a_death_in_the_middle_does_not_end_the_asking(house: House) -> None:
    """Only when all was compared is it over: what one process did not reach the next asks for."""
    names = [f"f{number}" for number in range(20)]
    house.write(*names)
    house.start()
    house.settle()
    lose_state(house)
    release = threading.Event()
    house.rig.fake.before("head_object", lambda call: release.wait(30) if call.nth > 5 else None)
    house.start()
    wait_until("it is in the middle", lambda: house.rig.fake.calls["head_object"] > 5)
    house.workers.stop()
    release.set()
    house.rig.fake.heal()
    house.restart()
    house.settle()
    assert house.rig.fake.bytes_received == 0
    assert house.rig.state.recorded_totals("docs")[0] == 20


def test_files_that_failed_keep_the_asking_alive(house: House) -> None:
    """As long as one of them could not be compared, its object may be there."""
    house.write("a", "b")
    house.start()
    house.settle()
    lose_state(house)
    house.rig.fake.fail("head_object", StoreUnavailable("down"), when=lambda call: call.key == "p/a")
    house.start()
    wait_until("one is compared", lambda: house.rig.state.recorded_totals("docs")[0] == 1)
    wait_until("one failed", lambda: house.rig.state.failures.page())
    assert house.rig.engine.sources["docs"].reconciling
    house.later(3600.0)
    wait_until("it is over", lambda: not house.rig.engine.sources["docs"].reconciling)
    assert house.rig.fake.bytes_received == 0


def test_a_store_that_cannot_be_asked_now_is_asked_file_by_file(tmp_path: Path) -> None:
    """Asking does no harm; the listing is tried again when a file or a scan would need it."""
    store = FakeStore(SMALL_LIMITS)
    store.fail("list_objects", StoreUnavailable("down"), times=2)
    house = House(tmp_path, store=store)
    house.write("a")
    house.start()
    house.settle()
    assert store.calls["head_object"] == 2  # before a file of several parts is read, and after
    house.close()


def test_wrong_keys_do_not_end_the_asking(tmp_path: Path) -> None:
    """What they could not see is there: it is compared as soon as the keys are right."""
    store = FakeStore(SMALL_LIMITS)
    store.fail("list_objects", AccessRefused("bad key", status=403, code="InvalidAccessKeyId"), times=2)
    house = House(tmp_path, store=store)
    house.write("a")
    house.start()
    house.settle()
    assert store.calls["head_object"] == 2  # before a file of several parts is read, and after
    house.close()


def test_who_may_not_list_may_send(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys that only allow to put: asking for what is not there would be forbidden, so it is not asked."""
    store = FakeStore(SMALL_LIMITS)
    denied = AccessRefused("no", status=403, code="AccessDenied")
    store.fail("list_objects", denied, times=None)
    store.fail("head_object", denied, times=None)
    house = House(tmp_path, store=store)
    house.write("a")
    house.start()
    house.settle()
    assert house.objects == {"a"}
    assert "without asking" in caplog.text
    house.close()


def test_listing_that_is_allowed_later_begins_the_asking_again(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """At the next scan, without a restart; that it is denied is said once."""
    house.write("a")
    house.start()
    house.settle()
    lose_state(house)
    denied = AccessRefused("no", status=403, code="AccessDenied")
    house.rig.fake.fail("list_objects", denied, times=2)
    asking = house.rig.reconcile()
    asking.begin()
    turned = []
    for _ in range(3):
        asking.probe()
        turned.append(house.rig.engine.sources["docs"].reconciling)
    assert turned == [False, False, True]
    assert caplog.text.count("without asking") == 1


def test_a_bucket_that_others_filled_costs_its_listing(house: House) -> None:
    """And no question for each of its objects; what is not there is sent, and what differs is looked at."""
    names = [f"{number:04d}" for number in range(2_000)]
    for name in names:
        house.rig.write(name, name.encode())
        house.rig.fake.without_metadata(f"p/{name}", name.encode())
    house.rig.fake.without_metadata("p/0500", b"else")
    house.rig.write("new", b"new")
    house.rig.fake.reset_counters()
    house.start()
    house.settle()
    house.stop()
    assert house.rig.state.recorded_totals("docs")[0] == 2_001
    assert house.rig.fake.bytes_received == len(b"0500") + len(b"new")
    assert house.rig.fake.calls["list_objects"] == 2
    assert house.rig.fake.calls["head_object"] <= 3  # the first, the other one, and a put that looked


@pytest.mark.parametrize(
    "refusal",
    [
        AccessRefused("the token has expired", status=400, code="ExpiredToken"),
        AccessRefused("wrong key", status=403, code="InvalidAccessKeyId"),
        AccessRefused("no such bucket", status=404, code="NoSuchBucket", credentials=False),
        StoreUnavailable("down"),
    ],
    ids=str,
)
def test_a_store_that_refuses_at_first_is_asked_when_it_answers(house: House, refusal: StoreError) -> None:
    """Whatever was refused; what another program sent is not sent again after that."""
    fake = house.rig.fake
    for name in ("small", "large"):
        house.rig.write(name, name.encode() if name == "small" else name.encode() * 9)
        fake.without_metadata(f"p/{name}", (house.rig.folder / name).read_bytes())
    fake.reset_counters()
    for verb in VERBS:
        fake.fail(verb, refusal, times=None)
    house.start()
    workers = house.workers  # keys that are refused shut the store at once, where no answer charges the file
    wait_until("it refused", lambda: workers.health.paused_for or len(house.rig.state.failures.page()) == 2)
    assert house.rig.state.recorded_totals("docs")[0] == 0
    fake.heal()

    def are_recorded() -> bool:
        house.later(600.0)  # each time: a refusal from before may shut the store after the last
        return house.rig.state.recorded_totals("docs")[0] == 2

    wait_until("both are recorded", are_recorded)
    assert fake.bytes_received == 0
    assert (fake.calls["put_object"], fake.calls["upload_part"]) == (0, 0)


def test_what_is_deleted_meanwhile_is_not_taken_from_the_listing(house: House) -> None:
    """The file comes back with the content that was listed: its object does not."""
    rig = house.rig
    rig.configure(on_delete=OnDelete.DELETE)
    rig.write("a", b"a")
    rig.sync("a")
    rig.fake.without_metadata("p/0", b"0")
    asking = rig.reconcile()
    asking.begin()
    asking.probe()
    for name in ("0", "b"):  # the page is read
        rig.write(name, b"0")
        rig.sync(name)
    (rig.folder / "a").unlink()
    rig.sync("a", delete_allowed=True)
    assert "p/a" not in rig.fake.objects
    rig.write("a", b"a")
    assert rig.sync("a").bytes_sent == 1
    assert rig.fake.objects["p/a"].data == b"a"

"""Before anything is sent it can be said what the store has already, and recorded."""

from __future__ import annotations

from syncd.core.errors import AccessRefused, StoreUnavailable
from syncd.pipeline.passes.adopt import Adopted, adopt
from tests.support.rig import PART
from tests.unit.pipeline.house import House


def filled(house: House) -> House:
    """Small and large files, of which a bucket has some, and some with another content."""
    for number in range(6):
        content = str(number).encode() * (3 if number % 2 else 3 * PART)
        house.rig.write(f"f{number}", content)
        if number < 2:
            house.rig.fake.without_metadata(f"p/f{number}", content)
        elif number < 4:
            house.rig.fake.without_metadata(f"p/f{number}", content[::-1] if number == 2 else b"longer")
    house.rig.fake.without_metadata("p/f2", b"x" * 3 * PART)
    house.rig.fake.reset_counters()
    return house


def run(house: House, *, dry_run: bool = False, most: int = 10**6) -> Adopted:
    asked = iter(range(most))
    return adopt(
        house.runner, house.rig.state, dry_run=dry_run, goes_on=lambda: next(asked, None) is not None
    )


def test_it_counts_and_records_what_is_known_and_sends_nothing(house: House) -> None:
    """A dry run records nothing; what was recorded counts as that the next time. No thread is waited for."""
    filled(house)
    sizes = {"known": 3 * PART + 3, "absent": 3 * PART + 3, "differs": 3 * PART + 3, "recorded": 0}
    for dry_run in (True, False):
        done = run(house, dry_run=dry_run)
        assert done.files == {"known": 2, "absent": 2, "differs": 2, "recorded": 0}
        assert done.bytes == sizes
        assert sorted(done.differing) == ["docs:f2", "docs:f3"]
        assert (done.failed, done.ended) == (0, "")
        assert house.rig.state.recorded_totals("docs")[0] == (0 if dry_run else 2)
    again = run(house)
    assert again.files == {"known": 0, "absent": 2, "differs": 2, "recorded": 2}
    assert house.rig.fake.bytes_received == 0
    assert not house.rig.engine.readers.heartbeat._heartbeats.are_expected()


def test_files_that_need_no_comparison_are_not_read(house: House) -> None:
    """Where nothing, or something of another size, is under the key."""
    filled(house)
    (house.rig.folder / "f4").chmod(0)
    (house.rig.folder / "f3").chmod(0)
    assert run(house, dry_run=True).failed == 0


def test_a_store_that_is_down_ends_it_and_so_does_the_operator(house: House) -> None:
    """Not after a failure for each of a million files."""
    house.write(*(f"{number:03}" for number in range(100)))
    assert run(house, most=3).ended == "it was interrupted"
    house.rig.fake.fail("head_object", StoreUnavailable("down"), times=1000)
    done = run(house)
    assert "its store cannot be used: down" in done.ended
    assert 16 <= done.failed < 60


def test_a_bucket_that_is_missing_is_not_an_empty_one(house: House) -> None:
    """A HEAD gets 404 in both; a neutral question tells them apart."""
    house.write("a", "b")
    house.rig.fake.fail("get_object", AccessRefused("there is no such bucket"), times=1)
    done = run(house)
    assert done.ended == "its store cannot be used: there is no such bucket"
    assert set(done.files.values()) == {0}

"""What cannot be watched: counted, said once, polled, and watched as soon as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.sources.watch.gaps import MAX_GAPS, MAX_SUBTREES, Gap, GapKind, Gaps, WatchStatus, merge_subtrees
from tests.unit.sources.watch.watch_rig import apart

# ---- the real thing: limits and rights --------------------------------------------------------------------


def test_watch_limit_keeps_what_it_has_and_names_the_rest(tmp_path: Path) -> None:
    """W4: at the limit the rest is polled, the status names the sysctl, and raising it heals."""
    told = apart("watch_limit", tmp_path)

    assert told["watches"] == 100
    assert told["directories"] == 301
    assert told["all_covered"] is True
    assert told["remedy_is_enough"] is True
    assert told["heard_in_watched"] is True
    assert told["alive"] is True
    assert told["lines_about_the_limit"] == 1
    assert told["after_raising"] == [301, [], ""]
    assert told["heard_after_raising"] is True


def test_too_many_gaps_become_one(tmp_path: Path) -> None:
    """W4: far beyond the limit the list stays bounded: all is polled, and the advice still counts."""
    told = apart("far_beyond_the_watch_limit", tmp_path)

    assert told["mode"] == "polling"
    assert told["unwatched"] == [""]
    assert told["directories"] == 1501
    assert told["remedy_is_enough"] is True
    assert told["after_raising"] == ["events", 1501, [], ""]


def test_instance_limit_means_polling_until_there_is_one(tmp_path: Path) -> None:
    """Without an inotify instance all is polled, with the sysctl in the status; is_alive asks again."""
    told = apart("instance_limit", tmp_path)

    assert told["refused"] == ["polling", [""], True]
    assert told["alive_although_refused"] is True
    assert told["later"] == "events"
    assert told["doubts"] == [""]
    assert told["heard"] is True


def test_without_descriptors_everything_is_polled_and_nothing_leaks(tmp_path: Path) -> None:
    """A process without free descriptors polls, says so once a try, and watches when there are some again."""
    told = apart("descriptor_limit", tmp_path)

    assert told == {"modes": ["polling"] * 3, "leaked": [], "alive": True, "later": "events", "doubts": 4}


def test_unreadable_directories(tmp_path: Path) -> None:
    """W5: a directory that cannot be read is a named gap, and is watched as soon as it can be read."""
    told = apart("unreadable_directories", tmp_path)

    assert told["at_start"] == ["events", ["closed"]]
    assert told["lines_about_it"] == 1
    assert told["heard_on_opening"] is True
    assert told["gaps_after_opening"] == []
    assert told["heard_after_opening"] is True
    assert told["heard_in_moved_in"] is True
    assert told["closed_later"] == []
    assert told["heard_after_closed_later"] is True


def test_unreadable_root_is_watched_once_it_can_be(tmp_path: Path) -> None:
    """W5: a root that cannot be read is said to be, and the canary's tick finds that it can be now."""
    told = apart("unreadable_root", tmp_path)

    mode, reason = told["at_start"]
    assert (mode, reason.partition(";")[0]) == ("polling", "the root cannot be read: Permission denied")
    assert told["later"] == ["events", ""]
    assert told["doubts"] == [""]
    assert told["heard"] is True


# ---- the list of gaps -------------------------------------------------------------------------------------


def limit(directories: int = 1) -> Gap:
    return Gap(GapKind.LIMIT, "watch limit reached", directories)


def unreadable() -> Gap:
    return Gap(GapKind.UNREADABLE, "cannot be read")


def test_no_gap_is_events_without_a_reason() -> None:
    """A source that is watched as a whole has nothing to explain."""
    assert Gaps().status(5, 2, "") == WatchStatus("events", 5, 5, 2, "", ())


def test_gap_is_news_once() -> None:
    """The same gap again is no news; for another reason it is."""
    gaps = Gaps()
    first, other = unreadable(), limit()

    assert [gaps.add("a", first), gaps.add("a", unreadable()), gaps.add("a", other)] == [
        ("a", first), None, ("a", other),
    ]  # fmt: skip


def test_closed_gap_is_news_again() -> None:
    """A directory that was watched since may become a gap again."""
    gaps = Gaps()
    gaps.add("a", unreadable())
    gaps.close("a")

    assert gaps.paths() == []
    assert gaps.add("a", unreadable()) is not None


def test_gaps_below_a_directory_that_left_go_with_it() -> None:
    """What is not at its place any more has no gaps there; a name that only begins alike keeps its own."""
    gaps = Gaps()
    for path in ("a", "a/b", "a/b/c", "ab", "b/a"):
        gaps.add(path, unreadable())
    gaps.drop("a")

    assert gaps.paths() == ["ab", "b/a"]


def test_everything_goes_with_the_root() -> None:
    """Dropping the root drops all gaps."""
    gaps = Gaps()
    gaps.add("a", unreadable())
    gaps.drop("")

    assert gaps.paths() == []


def test_status_at_the_limit_counts_and_advises() -> None:
    """The status says how many are watched of how many, and the line that helps."""
    gaps = Gaps()
    gaps.add("b", limit(10))
    gaps.add("a", limit(5))

    assert gaps.status(7, 0, "sysctl x=1") == WatchStatus(
        "events", 7, 22, 0, "watch limit reached: 7 of 22 directories are watched; raise it with: sysctl x=1",
        ("a", "b"),
    )  # fmt: skip


def test_status_names_one_unreadable_directory_and_the_number_of_others() -> None:
    """However many they are, the reason stays one line, and odd names do not break it."""
    gaps = Gaps()
    for path in ("new\nline", "x", "y"):
        gaps.add(path, unreadable())
    status = gaps.status(1, 0, "")

    assert status.reason == "not watched: new\\x0aline (cannot be read) and 2 more"
    assert (status.directories, status.unwatched) == (4, ("new\nline", "x", "y"))


def test_too_many_gaps_mean_polling_everything() -> None:
    """The list is bounded: one more than that and the whole source is polled, which is news once."""
    gaps = Gaps()
    for number in range(MAX_GAPS):
        gaps.add(f"{number}", limit())
    news = gaps.add("one more", limit())
    again = gaps.add("and another", limit())
    assert news is not None
    news[1].directories = 5_000  # counted from the root, so with those that are watched

    assert (news[0], again) == ("", None)
    assert gaps.is_whole
    status = gaps.status(100, 0, "sysctl x=1")
    assert (status.mode, status.unwatched, status.directories) == ("polling", ("",), 5_000)
    assert gaps.beyond_limit(100) == 4_900


def test_limit_is_news_until_asked() -> None:
    """The limit is logged once, and again only after it was lifted."""
    gaps = Gaps()
    answers = [gaps.is_limit_news()]
    gaps.add("a", limit())
    answers += [gaps.is_limit_news(), gaps.is_limit_news()]
    gaps.close("a")
    answers += [gaps.is_limit_news()]
    gaps.add("a", limit())
    answers += [gaps.is_limit_news()]

    assert answers == [False, True, False, False, True]


def test_cleared_gaps_are_as_new() -> None:
    """After `clear` nothing is known to be missing."""
    gaps = Gaps()
    gaps.polled = "nfs"
    gaps.add("a", limit())
    gaps.clear()

    assert gaps.status(1, 0, "") == Gaps().status(1, 0, "")


@pytest.mark.parametrize(("directory", "expected"), [("a", True), ("", False), ("a/b", False)])
def test_has_is_about_the_directory_itself(directory: str, expected: bool) -> None:
    """Only a gap directly in a directory counts, and only of the kind that was asked for."""
    gaps = Gaps()
    gaps.add("a/b", unreadable())
    gaps.add("c", limit())

    assert gaps.has(directory, GapKind.UNREADABLE) is expected


# ---- doubts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doubts", "expected"),
    [
        ({}, []),
        ({"a": "x"}, [("a", "x")]),
        ({"a/b": "x", "a": "y"}, [("a", "y")]),
        ({"a/b": "x", "ab": "y"}, [("a/b", "x"), ("ab", "y")]),
        ({"a": "x", "": "y", "b/c/d": "z"}, [("", "y")]),
    ],
)
def test_doubts_inside_others_are_left_out(doubts: dict[str, str], expected: list[tuple[str, str]]) -> None:
    """A subtree that is inside another one in doubt is scanned with that one."""
    assert merge_subtrees(doubts) == expected


def test_too_many_doubts_become_what_they_have_in_common() -> None:
    """Beyond the bound one doubt about the common directory stands for all."""
    doubts = {f"a/b/{number}/c": "moved" for number in range(MAX_SUBTREES + 1)}

    assert merge_subtrees(doubts) == [("a/b", f"{MAX_SUBTREES + 1} subtrees to scan, the first: moved")]


def test_too_many_doubts_without_anything_in_common_are_about_everything() -> None:
    """Without a common directory everything is in doubt."""
    doubts = {f"{number}": "moved" for number in range(MAX_SUBTREES + 1)}

    assert [subtree for subtree, _ in merge_subtrees(doubts)] == [""]


paths = st.lists(st.sampled_from("abc"), max_size=4).map("/".join)


@given(doubts=st.dictionaries(paths, st.just("why"), max_size=20))
def test_merged_doubts_cover_the_same_and_do_not_overlap(doubts: dict[str, str]) -> None:
    """Every doubt is inside exactly one of the merged ones, and those are doubts themselves."""
    merged = [subtree for subtree, _ in merge_subtrees(doubts)]

    def holders(path: str) -> list[str]:
        return [each for each in merged if each in ("", path) or path.startswith(f"{each}/")]

    assert set(merged) <= set(doubts)
    assert all(len(holders(path)) == 1 for path in doubts)

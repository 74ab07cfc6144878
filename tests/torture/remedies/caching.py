"""Remedies: caching."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

ENGINE = "syncd/transfer/engine.py"
PLAN = "syncd/core/plan.py"
WORKERS = "syncd/pipeline/workers.py"
SECOND_LOOK = "tests/scenarios/test_second_look.py"
CLOCK_JUMPS = "tests/scenarios/test_clock_jumps.py"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "C1",
        "a record that was made in the tick of a change is believed",
        (Edit(ENGINE, "racy = plan.is_racy(seen.stat, looked_ns, RACY_WINDOW_NS)", "racy = False"),),
        ("tests/unit/transfer/test_engine.py::test_a_young_file_is_looked_at_once_more",),
    ),
    Remedy(
        "C1",
        "a record that is known to be too young is believed all the same",
        (Edit(PLAN, "    if recorded.racy:\n        return ", "    if False:\n        return "),),
        ("tests/unit/core/test_plan.py::test_equal_stat_is_not_always_proof",),
    ),
    Remedy(
        "C1",
        "a young record is looked at again only by the next scan",
        (Edit(WORKERS, "if outcome.look_again_seconds is not None and not self._once:\n", "if False:\n"),),
        ("tests/unit/pipeline/test_workers.py::test_a_young_record_is_looked_at_again_by_the_daemon_only",),
    ),
    Remedy(
        "C1",
        "after the clock was put back, stamps that are still to come are believed",
        (
            Edit(
                PLAN,
                "return stat.ctime_ns > fresh or fresh",
                "return fresh < stat.ctime_ns <= now_ns + window_ns or fresh",
            ),
        ),
        (
            "tests/scenarios/test_clock_jumps.py::test_a_record_from_before_the_clock_was_put_back_is_not_trusted",
        ),
    ),
    Remedy(
        "C2",
        "a change whose mtime was put back is not noticed",
        (Edit("syncd/sources/files.py", "found.st_mtime_ns, found.st_ctime_ns)", "found.st_mtime_ns, 0)"),),
        (
            "tests/unit/transfer/test_engine.py::test_same_size_and_restored_mtime_is_noticed",
            "tests/scenarios/test_clock_jumps.py::test_a_change_behind_a_jump_is_noticed",
        ),
    ),
    Remedy(
        "C2",
        "what is older than its record is not looked at: copies that keep their times are missed",
        (
            Edit(
                PLAN,
                "    if stat != recorded.stat:\n        return _difference",
                "    if stat != recorded.stat and stat.mtime_ns >= recorded.stat.mtime_ns:\n"
                "        return _difference",
            ),
        ),
        ("tests/unit/core/test_plan.py::test_any_stat_field_asks_for_a_look",),
    ),
    Remedy(
        "C3",
        "the same inode with the same size is taken for the same file",
        (
            Edit(
                PLAN,
                "    if stat != recorded.stat:\n        return _difference",
                "    if (stat.inode, stat.size) != (recorded.stat.inode, recorded.stat.size):\n"
                "        return _difference",
            ),
        ),
        ("tests/unit/core/test_plan.py::test_any_stat_field_asks_for_a_look",),
    ),
    Remedy(
        "C4",
        "a store through a memory map behind the first look is never found",
        (
            Edit(
                WORKERS,
                "if event and isinstance(outcome.action, Upload | Copy) and not self._once:\n",
                "if False:\n",
            ),
        ),
        (f"{SECOND_LOOK}::test_what_was_stored_through_a_memory_map_arrives_within_the_second_look",),
    ),
    Remedy(
        "C4",
        "an event about a file whose stamps stand still is ignored",
        (Edit(PLAN, "    if event:\n        return ", "    if False:\n        return "),),
        ("tests/unit/core/test_plan.py::test_equal_stat_is_not_always_proof",),
    ),
    Remedy(
        "C4",
        "nobody can find out that a content changed without its stat",
        (
            Edit(
                "syncd/transfer/audit.py",
                "    if seen == row.stat:\n",
                "    if False:\n",
            ),
        ),
        ("tests/unit/cli/test_reports.py::test_content_that_changed_without_a_trace_is_found_by_reading",),
    ),
)

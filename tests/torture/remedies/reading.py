"""Remedies: reading."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

ENGINE = "syncd/transfer/engine.py"
TRANSFER = "syncd/transfer/uploader.py"
SENDER = "syncd/transfer/part_sender.py"
FINGERPRINT = "syncd/sources/files.py"
SETTLE = "syncd/core/settle.py"
MOVING = "tests/scenarios/test_moving_file.py"
SECOND_LOOK = "tests/scenarios/test_second_look.py"
NEVER_QUIET = "tests/scenarios/test_never_quiet.py"
TESTS_OF_ENGINE = "tests/unit/transfer/test_engine.py"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "T1",
        "a file that changes while it is read becomes an object that it never was",
        (Edit(ENGINE, "if file.stat() != seen.stat:\n", "if False:\n"),),
        (f"{MOVING}::test_a_small_file_that_moves",),
    ),
    Remedy(
        "T1",
        "a file that changes behind its last part is completed as it was",
        (Edit(TRANSFER, "        self._still(job)\n        self.state", "        self.state"),),
        (f"{MOVING}::test_what_changed_before_complete_is_not_completed",),
    ),
    Remedy(
        "T1",
        "parts of two states are completed, where no stamp tells of the change",
        (
            Edit(
                SENDER,
                "if fingerprint.digest(buffer) != job.digests.parts[span.number - 1]:\n",
                "if False:\n",
            ),
        ),
        (f"{SECOND_LOOK}::test_a_store_through_a_memory_map_during_the_upload_makes_no_mixture",),
    ),
    Remedy(
        "T2",
        "a torn read is sent where both looks fall into one second",
        (Edit(ENGINE, "if plan.may_hide_a_change(seen.stat, looked_ns, RACY_WINDOW_NS):\n", "if False:\n"),),
        ("tests/scenarios/test_coarse_clock.py::test_a_change_that_leaves_no_trace_is_not_sent_half",),
    ),
    Remedy(
        "T2",
        "a disk that counts in seconds is asked again and again, and a single pass gives its files up",
        (Edit("syncd/core/reactions.py", ", defer_seconds=error.quiet_seconds)", ")"),),
        ("tests/scenarios/test_coarse_clock.py::test_the_wait_is_as_long_as_it_has_to_be",),
    ),
    Remedy(
        "T3",
        "a file that shrinks is read as if it still had its bytes",
        (
            Edit(
                FINGERPRINT,
                "            if count == 0:\n                raise FileChanged(",
                "            if count == 0:\n                return\n                raise FileChanged(",
            ),
        ),
        (
            "tests/unit/sources/test_fingerprint.py::test_a_file_that_shrinks_while_it_is_read",
            "tests/scenarios/test_fast_paths.py::test_a_large_read_behind_the_end_is_told",
        ),
    ),
    Remedy(
        "T3",
        "a file that grows is digested as far as it was known",
        (Edit(FINGERPRINT, "    if not file.ends_at(size):\n", "    if False:\n"),),
        ("tests/unit/sources/test_fingerprint.py::test_a_file_that_grows_while_it_is_read",),
    ),
    Remedy(
        "T4",
        "a file that was replaced under way counts as done, and its successor is never looked at",
        (Edit(ENGINE, "if fingerprint.look(root_fd, ref.path) != step.stat:\n", "if False:\n"),),
        (f"{TESTS_OF_ENGINE}::test_a_file_that_changes_while_it_is_sent_is_not_recorded_as_it_was_not",),
    ),
    Remedy(
        "T4",
        "what takes the place of a file between the look and the open is read",
        (
            Edit(
                FINGERPRINT,
                "_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
                "_FILE = os.O_RDONLY | os.O_NONBLOCK",
            ),
            Edit(FINGERPRINT, " or (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):", ":"),
        ),
        (f"{MOVING}::test_a_small_file_that_moves",),
    ),
    Remedy(
        "T5",
        "a resumed upload goes on with parts of another state, where every name and size fits",
        (
            Edit(
                "syncd/core/parts.py",
                "if record.digest is not None and record.digest != digest:\n",
                "if False:\n",
            ),
        ),
        ("tests/unit/core/test_parts.py::test_claims_that_do_not_hold",),
    ),
    Remedy(
        "T5",
        "an unfinished upload is continued for another content of the same name and size",
        (
            Edit("syncd/core/parts.py", "    if checkpoint.fingerprint != fingerprint:\n", "    if False:\n"),
            Edit(
                "syncd/core/parts.py",
                "if record.digest is not None and record.digest != digest:\n",
                "if False:\n",
            ),
        ),
        (
            "tests/unit/transfer/test_uploader.py::test_same_name_and_size_with_other_content_restarts_and_aborts",
        ),
    ),
    Remedy(
        "T7",
        "a file is read in the middle of being written: an event does not put it off",
        (
            Edit(
                SETTLE,
                "        self.due = max(self.due, due) if self.held else due\n",
                "        self.due = max(self.due, due) if self.held else min(self.due, due)\n",
            ),
        ),
        ("tests/unit/core/test_settle.py::test_each_event_puts_it_off",),
    ),
    Remedy(
        "T7",
        "a file that is never quiet is never sent, and nobody is told",
        (Edit(SETTLE, "            self.remarked = True\n", "            self.remarked = False\n"),),
        (f"{NEVER_QUIET}::test_a_file_that_is_appended_for_ever_is_named_and_holds_up_nobody",),
    ),
)

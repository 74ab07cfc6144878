"""Remedies: scanning."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

SCAN = "syncd/sources/scan/compare.py"
WALK = "syncd/sources/scan/walk.py"
ABSENCE = "syncd/sources/scan/missing.py"
FINGERPRINT = "syncd/sources/files.py"
DELETES = "syncd/core/deletions.py"
KEEPER = "syncd/pipeline/source_runner.py"
PATHS = "syncd/core/paths.py"

SCANNING = "tests/unit/sources/scan/test_compare.py"
READING = "tests/unit/sources/test_fingerprint.py"
KEEPING = "tests/unit/pipeline/test_source_runner.py"
ROOTS = "tests/unit/sources/test_root.py"
GUARDS = "tests/scenarios/test_deletion_guards.py"
DELETING = "tests/unit/core/test_deletions.py"
NAMING = "tests/unit/core/test_paths.py"
STORING = "tests/unit/storage/dir/test_store.py"

REMEDIES: tuple[Remedy, ...] = (
    # ---- S1
    Remedy(
        "S1",
        "what a listing missed is gone, without a second look",
        (
            Edit(
                ABSENCE,
                "                if self._descriptor >= 0:\n                    return",
                "                if self._error:\n                    return",
            ),
        ),
        (f"{SCANNING}::test_what_a_listing_missed_is_looked_for",),
    ),
    Remedy(
        "S1",
        "a name that a later listing has is gone all the same",
        (Edit(ABSENCE, "if error is None and name in self._names:", "if error is None and not name:"),),
        (f"{SCANNING}::test_a_listing_that_has_a_name_outvotes_a_look",),
    ),
    Remedy(
        "S1",
        "a directory that changes while it is listed is listed once",
        (Edit(WALK, "        if after == before:\n", "        if after:\n"),),
        (f"{SCANNING}::test_a_listing_that_changes_meanwhile_is_repeated",),
    ),
    Remedy(
        "S1",
        "an object goes the moment its file is not seen, without a grace period",
        (Edit(DELETES, "if each.since <= now - self._grace_seconds]", "if each.since <= now]"),),
        (
            f"{DELETING}::test_what_trickles_in_for_ever_does_not_hold_up_the_rest",
            f"{DELETING}::test_a_file_has_to_be_gone_for_the_grace_period",
        ),
    ),
    Remedy(
        "S1",
        "a file that came back is deleted, because the last look does not count",
        (
            Edit(
                "syncd/transfer/engine.py",
                "            if seen is None or isinstance(seen, Irregular):\n"
                "                return self._absent(",
                "            if seen is None or isinstance(seen, Irregular) or ref in self.condemned:\n"
                "                seen = seen if isinstance(seen, Irregular) else None\n"
                "                return self._absent(",
            ),
        ),
        ("tests/unit/transfer/test_engine.py::test_a_condemned_file_that_is_back_is_not_deleted",),
    ),
    # ---- S2
    Remedy(
        "S2",
        "a directory that cannot be read is empty: what is below it is gone (both looks have to say so)",
        (
            Edit(
                SCAN,
                "            self._unreadable(path, error)\n"
                '            records.skip_below(path + b"/" if path else b"")\n',
                "            self._unreadable(path, error)\n",
            ),
            Edit(
                ABSENCE,
                "            if error.errno not in GONE or self._descriptor >= 0:\n                raise\n",
                "",
            ),
        ),
        (f"{SCANNING}::test_a_directory_that_cannot_be_read_taints_what_is_below",),
    ),
    Remedy(
        "S2",
        "an error at the second look is an absence",
        (Edit(ABSENCE, "error = None if raised.errno in GONE else raised", "error = None"),),
        (f"{SCANNING}::test_an_error_at_the_second_look_is_no_absence",),
    ),
    Remedy(
        "S2",
        "a scan with errors counts as complete",
        (Edit(SCAN, "complete = finished and self._errors == 0 and", "complete = finished and"),),
        (f"{GUARDS}::test_after_a_scan_with_errors_nothing_is_deleted",),
    ),
    Remedy(
        "S2",
        "deletions go although the last scan did not see everything",
        (
            Edit(
                DELETES,
                "        if self.unseen and asked > self._granted:\n            return self.unseen\n",
                "",
            ),
        ),
        (f"{DELETING}::test_after_a_scan_that_did_not_see_everything_even_one_waits",),
    ),
    # ---- S3
    Remedy(
        "S3",
        "a fifo is opened: that blocks, or whoever writes into it notices",
        (
            Edit(
                FINGERPRINT,
                "            if not modes.S_ISREG(before.st_mode):\n"
                '                raise FileChanged("it is not a regular file any more")\n',
                "",
            ),
        ),
        (f"{READING}::test_a_waiting_writer_does_not_notice_us",),
    ),
    Remedy(
        "S3",
        "a file that took the place of another between look and open is taken for it",
        (
            Edit(
                FINGERPRINT,
                "or (after.st_dev, after.st_ino) != (before",
                "or (before.st_dev, before.st_ino) != (before",
            ),
        ),
        ("tests/scenarios/test_swaps.py::test_what_took_the_place_of_a_file_is_not_taken_for_it",),
    ),
    Remedy(
        "S3",
        "sockets, devices and fifos are found by a scan like files",
        (
            Edit(
                FINGERPRINT,
                '    return Irregular(_KINDS.get(modes.S_IFMT(found.st_mode), "device"))\n',
                "    return file_stat(found)\n",
            ),
        ),
        (f"{SCANNING}::test_what_is_no_regular_file_is_skipped_and_counted",),
    ),
    # ---- S4
    Remedy(
        "S4",
        "a link in the middle of a path is followed by whoever reads a file",
        (
            Edit(
                FINGERPRINT,
                "_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW |",
                "_DIRECTORY = os.O_PATH | os.O_DIRECTORY |",
            ),
        ),
        (
            f"{READING}::test_a_swapped_link_never_leads_outside",
            "tests/scenarios/test_swaps.py::test_no_upload_holds_the_secret",
        ),
    ),
    Remedy(
        "S4",
        "a link in the place of a file is followed",
        (
            Edit(FINGERPRINT, "_FILE = os.O_RDONLY | os.O_NOFOLLOW |", "_FILE = os.O_RDONLY |"),
            Edit(
                FINGERPRINT,
                "or (after.st_dev, after.st_ino) != (before",
                "or (before.st_dev, before.st_ino) != (before",
            ),
        ),
        ("tests/scenarios/test_swaps.py::test_a_link_that_takes_a_files_place_is_not_followed",),
    ),
    Remedy(
        "S4",
        "a scan walks through a link out of the tree",
        (
            Edit(
                WALK,
                "_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW |",
                "_LIST = os.O_RDONLY | os.O_DIRECTORY |",
            ),
        ),
        (f"{SCANNING}::test_a_swapped_link_leads_no_scan_outside",),
    ),
    Remedy(
        "S4",
        "a `dir` store writes through a link out of its directory",
        (
            Edit(
                "syncd/storage/dir/files.py",
                "OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW |",
                "OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY |",
            ),
        ),
        (f"{STORING}::test_swapping_directories_for_links_wins_nothing",),
    ),
    # ---- S5
    Remedy(
        "S5",
        "any number of deletions goes without a word",
        (Edit(DELETES, "        if asked <= limit:\n", "        if asked:\n"),),
        (f"{DELETING}::test_too_many_all_wait", f"{KEEPING}::test_too_many_deletions_wait_for_a_word"),
    ),
    Remedy(
        "S5",
        "each batch has an allowance of its own, so that many small ones take everything",
        (Edit(DELETES, "            self._spent.append((now, of_window))\n", "            pass\n"),),
        (f"{DELETING}::test_one_window_is_one_allowance",),
    ),
    Remedy(
        "S5",
        "a root that is empty all of a sudden is believed",
        (
            Edit(
                SCAN,
                "            if has_records and next(entries, None) is None:\n",
                "            if entries is None:\n",
            ),
        ),
        (f"{KEEPING}::test_a_root_that_was_emptied_is_not_believed",),
    ),
    Remedy(
        "S5",
        "the root is not looked at again once it is known what is missing",
        (Edit(SCAN, "            doubt = check_root(source, identity, has_records)[1]\n", ""),),
        (f"{SCANNING}::test_a_root_that_goes_away_during_the_scan",),
    ),
    Remedy(
        "S5",
        "the root is not looked at again before deletions go (neither then nor by the step itself)",
        (
            Edit(
                KEEPER,
                "        if not self._root_is_right():\n            return\n        files, _",
                "        files, _",
            ),
            Edit(
                "syncd/transfer/engine.py",
                "if known is not None and found != known",
                "if known is None and found != known",
            ),
        ),
        (f"{GUARDS}::test_deletions_do_not_go_when_the_root_went_meanwhile",),
    ),
    Remedy(
        "S5",
        "a directory is taken for the root since another one, mounted there meanwhile, holds our files",
        (
            Edit(
                "syncd/sources/root.py",
                "            if fingerprint.identity_of(root_fd) != identity:\n",
                "            if fingerprint.identity_of(root_fd) is None:\n",
            ),
        ),
        (f"{ROOTS}::test_a_directory_is_not_believed_for_the_files_of_another",),
    ),
    Remedy(
        "S5",
        "after a root was replaced what is not in the new one is deleted without a word",
        (Edit(KEEPER, "        if self._guard.replaced:\n            self._hold_deletions()\n", ""),),
        (f"{KEEPING}::test_an_accepted_root_is_scanned_and_deletes_nothing_without_a_word",),
    ),
    Remedy(
        "S5",
        "an object is deleted that our state does not say is ours",
        (
            Edit(
                "syncd/transfer/engine.py",
                "        if self._is_anothers(recorded.key, ref):\n",
                "        if not recorded.key:\n",
            ),
        ),
        (
            "tests/unit/transfer/test_engine.py::test_an_object_that_belongs_to_another_file_by_now_is_not_deleted",
        ),
    ),
    # ---- S6
    Remedy(
        "S6",
        "a directory that vanished between listing and opening is an error",
        (
            Edit(
                SCAN,
                "        if error.errno not in fingerprint.GONE:\n"
                "            self._unreadable(path, error)\n"
                "            records",
                "        if error.errno:\n            self._unreadable(path, error)\n            records",
            ),
        ),
        (f"{SCANNING}::test_types_that_flip_during_the_scan_are_no_errors",),
    ),
    Remedy(
        "S6",
        "a file that vanished between listing and look is an error",
        (
            Edit(
                SCAN,
                "                if error.errno not in fingerprint.GONE:\n"
                "                    self._unreadable(prefix",
                "                if error.errno:\n                    self._unreadable(prefix",
            ),
        ),
        (f"{SCANNING}::test_types_that_flip_during_the_scan_are_no_errors",),
    ),
    Remedy(
        "S6",
        "a file in whose place a directory is by now hides what is in it",
        (Edit(SCAN, "            frame.turned_into_directory(name)\n", "            pass\n"),),
        ("tests/scenarios/test_swaps.py::test_a_file_that_becomes_a_directory_is_entered",),
    ),
    # ---- S7
    Remedy(
        "S7",
        "two names have one key",
        (
            Edit(
                PATHS,
                '    return QUOTE + (QUOTE if character == QUOTE else f"{ord(character) - 0xDC00:02X}")\n',
                '    return character if character == QUOTE else f"{QUOTE}{ord(character) - 0xDC00:02X}"\n',
            ),
        ),
        (f"{NAMING}::test_other_names_are_escaped", f"{NAMING}::test_every_path_comes_back"),
    ),
    Remedy(
        "S7",
        "a key with a segment that clients and proxies rewrite is sent, and lands elsewhere",
        (
            Edit(
                PATHS,
                '    if any(segment in (".", "..") for segment in key.split("/")):\n'
                '        return "the key has a segment',
                '    if not key:\n        return "the key has a segment',
            ),
        ),
        (f"{NAMING}::test_keys_that_no_store_can_take",),
    ),
    Remedy(
        "S7",
        "a key that the store cannot take is sent all the same",
        (
            Edit(
                "syncd/transfer/engine.py",
                "            if problem is not None:\n",
                "            if not key:\n",
            ),
        ),
        (
            "tests/unit/transfer/test_engine.py::test_a_key_that_the_store_cannot_take_is_refused_with_its_length",
        ),
    ),
    Remedy(
        "S7",
        "a prefix leads out of its place",
        (
            Edit(
                PATHS,
                '    if any(segment in (".", "..") for segment in prefix.split("/")):\n'
                '        return "has a segment',
                '    if not prefix:\n        return "has a segment',
            ),
        ),
        (f"{NAMING}::test_bad_prefixes",),
    ),
    Remedy(
        "S7",
        "two sources put their files under one prefix",
        (
            Edit(
                "syncd/config/sources.py",
                "    _check_destinations(draft, document)\n    if state_dir",
                "    if state_dir",
            ),
        ),
        ("tests/unit/config/test_problems.py::test_every_mistake_has_its_line_and_its_words",),
    ),
    Remedy(
        "S7",
        "a path leads out of the source",
        (Edit(FINGERPRINT, '    if name in ("", ".", "..") or "\\0" in name:\n', '    if "\\0" in name:\n'),),
        (f"{READING}::test_no_path_leads_out_of_the_root",),
    ),
    Remedy(
        "S7",
        "a key leads out of the directory of a `dir` store",
        (
            Edit(
                "syncd/storage/dir/tree.py",
                '        if name in (b"", b".", b".."):\n',
                '        if name in (b"", b"."):\n',
            ),
        ),
        (f"{STORING}::test_a_key_that_is_no_path_is_refused",),
    ),
)

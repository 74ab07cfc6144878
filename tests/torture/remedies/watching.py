"""Remedies: watching."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

READER = "syncd/sources/watch/emitter.py"
ROOTS = "syncd/sources/watch/roots.py"
TREE = "syncd/sources/watch/tree.py"
FINDINGS = "syncd/sources/watch/reports.py"
WATCH = "syncd/sources/watch/watcher.py"

WATCHING = "tests/unit/sources/watch/test_watcher.py"
OF_TREE = "tests/unit/sources/watch/test_tree.py"
OF_ROOTS = "tests/unit/sources/watch/test_roots.py"
OF_GAPS = "tests/unit/sources/watch/test_gaps.py"
OF_EVENTS = "tests/scenarios/test_watch_events.py"
KEEPER = "tests/unit/pipeline/test_source_runner.py"
DAEMON = "tests/unit/daemon/test_daemon.py"
SURVIVAL = "tests/scenarios/test_watch_survival.py"

REMEDIES: tuple[Remedy, ...] = (
    # ---- W1
    Remedy(
        "W1",
        "the overflow record is read past: what the queue dropped is never looked for",
        (Edit(READER, "                self._roots.overflowed()\n", ""),),
        (f"{SURVIVAL}::test_a_full_queue_is_counted_and_puts_everything_in_doubt",),
    ),
    Remedy(
        "W1",
        "an overflow is not counted, so that no status shows it",
        (Edit(ROOTS, "        self._findings.overflows += 1\n", ""),),
        (f"{SURVIVAL}::test_a_full_queue_is_counted_and_puts_everything_in_doubt",),
    ),
    Remedy(
        "W1",
        "after an overflow nobody looks for directories that came unheard",
        (
            Edit(
                ROOTS,
                'event queue was full")\n                self._tree.work.look_at_all(source)\n',
                'event queue was full")\n',
            ),
        ),
        (f"{SURVIVAL}::test_a_full_queue_is_counted_and_puts_everything_in_doubt",),
    ),
    Remedy(
        "W1",
        "there is no scan at an interval: what no event told of is never found",
        (
            Edit(
                "syncd/pipeline/source_runner.py",
                "        if scan_is_due:\n",
                "        if scan_is_due and self._asked:\n",
            ),
        ),
        (f"{KEEPER}::test_the_interval_brings_a_scan_and_what_it_finds_is_counted",),
    ),
    # ---- W2
    Remedy(
        "W2",
        "a reader that has ended counts as alive",
        (
            Edit(
                WATCH,
                "        if not reader.is_working() or not reader.tick().wait(timeout_seconds) or not "
                "reader.is_working():\n",
                "        if not reader.tick().wait(timeout_seconds):\n",
            ),
            Edit(WATCH, "        if reader.canary.watch is None:\n", "        if not reader.is_working():\n"),
        ),
        (f"{WATCHING}::test_exception_in_the_reader_is_noticed_and_healed",),
    ),
    Remedy(
        "W2",
        "the thread runs but hears nothing, and is believed",
        (
            Edit(
                WATCH,
                "        return reader.is_working() and reader.handled > handled\n",
                "        return reader.is_working()\n",
            ),
        ),
        (f"{SURVIVAL}::test_a_reader_that_hears_nothing_is_not_alive",),
    ),
    Remedy(
        "W2",
        "the daemon never builds a watcher anew",
        (Edit("syncd/daemon/daemon.py", "            self._watcher.restart()\n", ""),),
        (f"{DAEMON}::test_a_blind_watcher_is_built_anew_and_if_that_does_not_help_the_process_is",),
    ),
    Remedy(
        "W2",
        "the version of watchdog whose reader dies on a plain mkdir is accepted",
        (Edit("pyproject.toml", '"watchdog>=6.0,!=7.0.0"', '"watchdog>=6.0"'),),
        (f"{SURVIVAL}::test_the_broken_release_of_watchdog_is_excluded",),
    ),
    # ---- W3
    Remedy(
        "W3",
        "a path is taken for the directory that it once was, without a look at what is there",
        (Edit(TREE, "            if watch == node.watch:\n", "            if watch:\n"),),
        (f"{OF_TREE}::test_another_directory_is_in_its_place_for_a_moment",),
    ),
    Remedy(
        "W3",
        "a parent that has moved on already is given up: what was made in it stays blind",
        (
            Edit(
                TREE,
                "            self.work.doubt(node)\n        return None\n",
                "            pass\n        return None\n",
            ),
        ),
        (f"{OF_TREE}::test_directory_that_is_away_for_a_moment_while_it_is_looked_at",),
    ),
    Remedy(
        "W3",
        "a file is reported under the path that its directory had before it moved",
        (
            Edit(
                READER,
                "        if self._tree.moves != moves:\n            self._report(files, paths)\n",
                "",
            ),
        ),
        (f"{OF_TREE}::test_change_before_a_move_is_reported_where_the_file_is",),
    ),
    # ---- W4
    Remedy(
        "W4",
        "a directory without a watch is not noted: nobody polls it, no status tells",
        (Edit(TREE, "        self._findings.unwatched(source, path, error)\n", ""),),
        (f"{OF_GAPS}::test_watch_limit_keeps_what_it_has_and_names_the_rest",),
    ),
    Remedy(
        "W4",
        "a source with gaps is scanned no more often than others",
        (
            Edit(
                "syncd/pipeline/source_runner.py",
                "        if self._sight.blindness().reason or (",
                "        if (",
            ),
        ),
        (f"{KEEPER}::test_a_source_without_events_is_polled",),
    ),
    Remedy(
        "W4",
        "the runner is not told of gaps in an otherwise watched source",
        (
            Edit(
                "syncd/daemon/daemon.py",
                'not (seen.mode == "polling" or seen.unwatched)',
                'seen.mode != "polling"',
            ),
        ),
        (f"{SURVIVAL}::test_a_daemon_beyond_the_watch_limit_finds_everything",),
    ),
    # ---- W5
    Remedy(
        "W5",
        "a directory that can be read later is never watched",
        (
            Edit(
                TREE,
                "            self._listen_for_rights(parent, fd, directory)\n",
                "            pass\n",
            ),
        ),
        (f"{OF_GAPS}::test_unreadable_directories",),
    ),
    Remedy(
        "W5",
        "a root that cannot be read is not looked at again",
        (
            Edit(
                ROOTS,
                "        for source in self._sources:\n            self._check(source, first=False)\n",
                "        for source in self._sources:\n",
            ),
        ),
        (f"{OF_GAPS}::test_unreadable_root_is_watched_once_it_can_be",),
    ),
    # ---- W6
    Remedy(
        "W6",
        "whatever is at the root's path is taken for the root that is watched",
        (Edit(ROOTS, "root is not None and root.watch == watch", "root is not None"),),
        (f"{OF_ROOTS}::test_root_exchanged_for_another",),
    ),
    Remedy(
        "W6",
        "a step for one file does not look which directory the root is",
        (
            Edit(
                "syncd/transfer/engine.py",
                "if known is not None and found != known",
                "if known is None and found != known",
            ),
        ),
        ("tests/unit/transfer/test_engine.py::test_a_file_below_a_root_that_was_replaced_is_not_judged",),
    ),
    Remedy(
        "W6",
        "a scan takes another directory for the root",
        (
            Edit(
                "syncd/sources/scan/compare.py",
                "        if known is not None and identity != known:\n",
                "        if known is None and identity != known:\n",
            ),
        ),
        (
            f"{KEEPER}::test_another_directory_is_not_believed_and_says_what_would_help",
            "tests/unit/sources/scan/test_compare.py::test_a_doubtful_root_tells_nothing",
        ),
    ),
    # ---- W7
    Remedy(
        "W7",
        "the link is not resolved: it is watched, not the directory",
        (
            Edit(
                "syncd/config/sources.py",
                "        root=os.path.realpath(entry.path),\n",
                "        root=entry.path,\n",
            ),
        ),
        ("tests/unit/config/test_load.py::test_a_root_that_is_a_link_is_resolved",),
    ),
    Remedy(
        "W7",
        "nobody notices that the link leads elsewhere by now",
        (
            Edit(
                "syncd/sources/root.py",
                "os.path.realpath(self._source.given) != self._source.root",
                "not self._source.root",
            ),
        ),
        ("tests/scenarios/test_link_root.py::test_a_link_that_leads_elsewhere_is_not_followed_silently",),
    ),
    # ---- W8
    Remedy(
        "W8",
        "nobody listens to the mount table",
        (Edit(READER, "            self._roots.mounts_changed()\n", "            pass\n"),),
        (f"{OF_ROOTS}::test_unmounted_and_remounted_root", f"{OF_ROOTS}::test_mounts_inside_a_source"),
    ),
    Remedy(
        "W8",
        "files of an unmounted folder are taken for deleted, by a scan",
        (
            Edit(
                "syncd/sources/scan/missing.py",
                "error is None and recorded.stat.device != self._device",
                "error is None and not self._device",
            ),
        ),
        ("tests/unit/sources/scan/test_compare.py::test_an_unmounted_folder_is_not_deleted_files",),
    ),
    Remedy(
        "W8",
        "files of an unmounted folder are taken for deleted, by the step for one file",
        (
            Edit(
                "syncd/transfer/engine.py",
                "        if known is not None and _is_elsewhere(root_fd, ref, known.stat):\n",
                "        if not recorded.key:\n",
            ),
        ),
        (
            "tests/scenarios/test_deletion_guards.py::test_an_event_about_a_file_whose_disk_was_unmounted_deletes_nothing",
        ),
    ),
    # ---- W9
    Remedy(
        "W9",
        "what has moved out goes on being watched, under its old path",
        (
            Edit(
                TREE,
                "            self._forget(node)\n        for watch",
                "            self.work.trust(node)\n        for watch",
            ),
        ),
        (f"{OF_TREE}::test_move_out_ends_the_watches",),
    ),
    Remedy(
        "W9",
        "nobody looks for the files of a directory that moved out",
        (
            Edit(
                TREE,
                '            self._findings.doubt(source, path, "directory moved away")\n',
                "            pass\n",
            ),
        ),
        (f"{OF_TREE}::test_move_out_ends_the_watches",),
    ),
    Remedy(
        "W9",
        "what is in a directory that moved in is not reported",
        (Edit(TREE, "Mode.FIRST if mode is Mode.FIRST else Mode.NEW)", "Mode.FIRST)"),),
        (f"{OF_TREE}::test_move_in_reports_what_came",),
    ),
    # ---- W10
    Remedy(
        "W10",
        "an exception of the listener ends the reader",
        (
            Edit(
                FINDINGS,
                "        except Exception:  # the reader lives on, whatever its listener raises\n",
                "        except KeyError:\n",
            ),
        ),
        (f"{WATCHING}::test_exceptions_of_the_sink_do_not_end_the_reader",),
    ),
    Remedy(
        "W10",
        "a change that the listener refused is forgotten",
        (Edit(FINDINGS, '            self.doubt(source, "", "a change could not be passed on")\n', ""),),
        (
            "tests/unit/sources/watch/test_reports.py::test_refused_change_becomes_a_doubt_that_is_kept_until_taken",
        ),
    ),
    Remedy(
        "W10",
        "events fill memory without a bound while nobody works them off",
        (
            Edit(
                "syncd/pipeline/queue.py",
                "            if self._crowd() >= 2 * MAX_WAITING:\n                return False\n",
                "",
            ),
        ),
        ("tests/unit/pipeline/test_queue.py::test_events_beyond_the_bound_become_a_scan",),
    ),
    Remedy(
        "W10",
        "events beyond the bound are dropped, and no scan makes it good",
        (
            Edit(
                "syncd/pipeline/pipeline.py",
                '            runner.ask("", "more events than could be kept")\n',
                "            pass\n",
            ),
        ),
        ("tests/unit/pipeline/test_pipeline.py::test_too_many_events_become_a_scan",),
    ),
    # ---- W11
    Remedy(
        "W11",
        "every directory beyond the limit has a line of its own",
        (
            Edit(
                FINDINGS,
                "            self._to_count.append((source, path, gap))\n"
                "        else:\n"
                "            log.warning(",
                "            self._to_count.append((source, path, gap))\n"
                "        if gap:\n"
                "            log.warning(",
            ),
        ),
        (f"{SURVIVAL}::test_the_log_does_not_grow_with_the_tree",),
    ),
    # ---- W12
    Remedy(
        "W12",
        "a new directory is watched, but what was in it before is not reported",
        (
            Edit(
                TREE,
                "            if mode is Mode.NEW:\n                for name in files:\n",
                "            if mode is None:\n                for name in files:\n",
            ),
        ),
        (
            f"{OF_TREE}::test_new_tree_is_watched_and_its_files_are_reported",
            f"{WATCHING}::test_trees_created_quickly",
        ),
    ),
    Remedy(
        "W12",
        "a directory that changes while it is listed is listed once",
        (
            Edit(
                TREE, "        if os.fstat(fd).st_mtime_ns == before:\n            break\n", "        break\n"
            ),
        ),
        (f"{SURVIVAL}::test_a_new_directory_is_listed_until_it_is_stable",),
    ),
    # ---- W13
    Remedy(
        "W13",
        "opening a file is an event: every scan makes as many as there are files",
        (
            Edit(
                "syncd/sources/watch/inotify.py",
                "CONTENT = CREATE | MODIFY",
                "CONTENT = OPEN | CREATE | MODIFY",
            ),
        ),
        (
            "tests/unit/sources/watch/test_inotify.py::test_reading_and_listing_make_no_records",
            f"{WATCHING}::test_our_own_reading_makes_no_events",
        ),
    ),
    # ---- W14
    Remedy(
        "W14",
        "a writer that never closes, and a file that is cut by its path, are never heard",
        (
            Edit(
                "syncd/sources/watch/inotify.py",
                "CONTENT = CREATE | MODIFY | CLOSE_WRITE",
                "CONTENT = CREATE | CLOSE_WRITE",
            ),
        ),
        (f"{OF_EVENTS}::test_truncated_by_path", f"{OF_EVENTS}::test_writer_that_never_closes"),
    ),
    Remedy(
        "W14",
        "a file that is saved by a rename is never heard",
        (
            Edit(
                "syncd/sources/watch/inotify.py", "MOVED_FROM | MOVED_TO | DELETE |", "MOVED_FROM | DELETE |"
            ),
        ),
        (f"{OF_EVENTS}::test_saved_by_rename_from_outside",),
    ),
    Remedy(
        "W14",
        "a hard link that is made into the tree is never heard",
        (Edit("syncd/sources/watch/inotify.py", "CONTENT = CREATE | MODIFY", "CONTENT = MODIFY"),),
        (f"{OF_EVENTS}::test_hard_link_into_the_tree",),
    ),
    # ---- W16
    Remedy(
        "W16",
        "a name that is not UTF-8 is replaced by one that no file has",
        (
            Edit(
                READER,
                "self.findings.changed(node.source, path, os.fsdecode(name))",
                'self.findings.changed(node.source, path, name.decode(errors="replace"))',
            ),
        ),
        (f"{WATCHING}::test_names_that_are_not_text",),
    ),
    Remedy(
        "W16",
        "the key of a name that is not UTF-8 is no text, and no store takes it",
        (
            Edit(
                "syncd/core/paths.py", "return prefix + _TO_ESCAPE.sub(_escape, path)", "return prefix + path"
            ),
        ),
        (
            "tests/unit/core/test_paths.py::test_every_path_comes_back",
            "tests/unit/core/test_paths.py::test_other_names_are_escaped",
        ),
    ),
    Remedy(
        "W16",
        "a name with a newline in it makes two lines of a log",
        (Edit("syncd/core/paths.py", '    return "".join(map(_shown, path))\n', "    return path\n"),),
        ("tests/unit/core/test_paths.py::test_printable",),
    ),
    # ---- W20
    Remedy(
        "W20",
        "the first scan runs ahead of the watches: what changes behind it is lost",
        (
            Edit(
                "syncd/daemon/daemon.py",
                "        self._watcher = self._watch(self._settings.sources)\n        control",
                "        self._pipeline.start()\n"
                "        self._watcher = self._watch(self._settings.sources)\n"
                "        control",
            ),
        ),
        (f"{SURVIVAL}::test_watches_are_placed_before_the_first_scan",),
    ),
    Remedy(
        "W20",
        "`start` returns before the watches are in place",
        (Edit(WATCH, "        placed.wait()\n        return True\n", "        return True\n"),),
        (f"{SURVIVAL}::test_start_returns_when_the_watches_are_in_place",),
    ),
    Remedy(
        "W20",
        "a root that is back is scanned before it is watched again",
        (Edit("syncd/pipeline/source_runner.py", "            self._sight.rewatch()\n", ""),),
        (f"{KEEPER}::test_a_root_that_is_away_is_waited_for",),
    ),
    Remedy(
        "W20",
        "the scan of a root that came back is asked for before all in it is watched",
        (Edit(ROOTS, "        if not self._tree.work.is_placing:\n", "        if self._owed:\n"),),
        (f"{SURVIVAL}::test_a_root_that_came_back_is_told_of_when_it_is_watched",),
    ),
)

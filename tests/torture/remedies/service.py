"""Remedies: the service, its manager and its keys."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

_DAEMON = "syncd/daemon/daemon.py"
_UNIT = "systemd/syncd.service"
_TESTS = "tests/unit/daemon/test_daemon.py"
_POLICY = "tests/systemd/test_unit_policy.py"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "O1",
        "the manager hears of life while a worker hangs",
        (
            Edit(
                _DAEMON,
                "        if not trouble:\n            self._notifier.watchdog()\n            trouble =",
                "        self._notifier.watchdog()\n        if not trouble:\n            trouble =",
            ),
        ),
        (f"{_TESTS}::test_the_watchdog_is_not_fed_while_a_part_is_stuck",),
    ),
    Remedy(
        "O1",
        "a worker that hangs is never late",
        (
            Edit(
                "syncd/pipeline/workers.py",
                "        self._beats.step()\n        self._on_turn()\n        try:\n",
                "        self._on_turn()\n        try:\n",
            ),
        ),
        ("tests/unit/pipeline/test_workers.py::test_a_worker_that_hangs_is_late",),
    ),
    Remedy(
        "O1",
        "a watcher that sees nothing any more looks healthy",
        (
            Edit(
                _DAEMON,
                "        if not trouble and not self._watcher.is_alive(_CANARY_SECONDS):\n",
                "        if trouble and not self._watcher.is_alive(_CANARY_SECONDS):\n",
            ),
        ),
        (f"{_TESTS}::test_a_blind_watcher_is_built_anew_and_if_that_does_not_help_the_process_is",),
    ),
    Remedy(
        "O1",
        "a state that cannot be written is not said",
        (
            Edit(
                _DAEMON,
                "            trouble = str(error)\n",
                '            trouble = ""\n',
            ),
        ),
        (f"{_TESTS}::test_a_state_that_cannot_be_written_is_said_and_kills_nothing",),
    ),
    Remedy(
        "O2",
        "readiness waits for the first scan, and the manager loses patience",
        (
            Edit(
                _DAEMON,
                '            self._notifier.ready(self._line())\n            log.info("ready:',
                "            self._pipeline.start()\n"
                '            self._notifier.ready(self._line())\n            log.info("ready:',
            ),
        ),
        (f"{_TESTS}::test_it_is_ready_before_the_first_scan",),
    ),
    Remedy(
        "O3",
        "a thread that is stuck holds up the end until the manager kills",
        (
            Edit(
                _DAEMON,
                "            os._exit(0)  # a thread stuck in the kernel must not hold up the exit\n",
                "            pass\n",
            ),
        ),
        (f"{_TESTS}::test_a_stuck_thread_does_not_hold_up_the_end",),
    ),
    Remedy(
        "O3",
        "a request on its way holds up the end",
        (
            Edit(
                "syncd/storage/http/deadlines.py",
                '                raise Stopped("stopped in the middle of a request")\n',
                "                pass\n",
            ),
        ),
        ("tests/unit/storage/http/test_deadlines.py::test_a_stop_leaves_a_moment_to_end_by_itself",),
    ),
    Remedy(
        "O3",
        "a pause between two tries holds up the end",
        (
            Edit(
                "syncd/pipeline/store_runner.py",
                "        if self._stopping.wait(seconds):\n            raise Stopped\n",
                "        self._stopping.wait(min(seconds, 1.0))\n",
            ),
        ),
        ("tests/unit/pipeline/test_pipeline.py::test_a_line_wires_its_store_to_its_meter",),
    ),
    Remedy(
        "O3",
        "the whole group is told to end, or killed before the drain is over",
        (Edit(_UNIT, "KillMode=mixed\n", "KillMode=process\n"),),
        (f"{_POLICY}::test_an_end_has_time_and_hits_the_daemon_alone",),
    ),
    Remedy(
        "O4",
        "a few deaths in a row, and the manager gives up for good",
        (Edit(_UNIT, "StartLimitIntervalSec=0\n", "StartLimitIntervalSec=30\n"),),
        (f"{_POLICY}::test_no_number_of_deaths_is_the_end",),
    ),
    Remedy(
        "O4",
        "a wrong configuration is tried again without end",
        (Edit(_UNIT, "RestartPreventExitStatus=2 78\n", ""),),
        (f"{_POLICY}::test_what_another_start_would_not_mend_is_not_started_again",),
    ),
    Remedy(
        "O4",
        "a wrong configuration looks like a crash",
        (
            Edit(
                "syncd/cli/app.py",
                "                _say(str(problem))\n            sys.exit(EXIT_CONFIG)\n",
                "                _say(str(problem))\n            sys.exit(EXIT_FAILED)\n",
            ),
        ),
        ("tests/e2e/test_run.py::test_a_wrong_configuration_starts_nothing",),
    ),
    Remedy(
        "O5",
        "a key stands in the log",
        (Edit("syncd/daemon/logs.py", "        return _secrets.mask(text)\n", "        return text\n"),),
        ("tests/unit/daemon/test_logs.py::test_secret_is_masked_wherever_it_stands",),
    ),
    Remedy(
        "O5",
        "keys that are read from files are not hidden",
        (
            Edit(
                "syncd/daemon/logs.py",
                "        with contextlib.suppress(OSError, UnicodeDecodeError), "
                'open(path, encoding="utf-8") as file:\n            hide(file.read().strip())\n',
                "        del path\n",
            ),
        ),
        ("tests/unit/daemon/test_logs.py::test_keys_of_an_account_are_hidden_from_values_and_files",),
    ),
    Remedy(
        "O5",
        "a core file holds the keys: the process may be dumped",
        (
            Edit(
                "syncd/daemon/process.py",
                "        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0),) * 4)\n",
                "        pass\n",
            ),
        ),
        ("tests/e2e/test_secrets.py::test_a_process_that_holds_keys_is_closed",),
    ),
    Remedy(
        "O5",
        "a core file holds the keys: nobody forbids it",
        (Edit("syncd/cli/app.py", "        machine.keep_memory_private()\n", "        pass\n"),),
        ("tests/e2e/test_secrets.py::test_no_death_leaves_a_core_file",),
    ),
    Remedy(
        "O5",
        "a key file that everybody can read is taken without a word",
        (Edit("syncd/config/stores.py", "mode & stat.S_IROTH:", "mode & stat.S_ISVTX:"),),
        ("tests/unit/config/test_load.py::test_a_key_that_everybody_can_read_is_warned_of",),
    ),
    Remedy(
        "O5",
        "a rotated key is never read",
        (
            Edit(
                "syncd/storage/http/credentials.py",
                "if self._seen is None or self._seen.mark != mark:",
                "if self._seen is None:",
            ),
        ),
        ("tests/unit/storage/http/test_credentials.py::test_a_file_that_is_replaced_is_read_again",),
    ),
    Remedy(
        "O6",
        "the sandbox has a hole",
        (Edit(_UNIT, "SystemCallFilter=~@privileged @resources\n", ""),),
        (f"{_POLICY}::test_the_sandbox_is_closed",),
    ),
    Remedy(
        "O6",
        "the service cannot read the files of others",
        (Edit(_UNIT, "AmbientCapabilities=CAP_DAC_READ_SEARCH\n", ""),),
        (f"{_POLICY}::test_the_service_may_read_everything_and_write_nothing_of_others",),
    ),
    Remedy(
        "O6",
        "others can read the state",
        (Edit(_UNIT, "StateDirectoryMode=0700\n", "StateDirectoryMode=0755\n"),),
        (f"{_POLICY}::test_the_service_may_read_everything_and_write_nothing_of_others",),
    ),
    Remedy(
        "O7",
        "a tree that the sandbox hides is missed without a word why",
        (
            Edit(
                _DAEMON,
                "        if waiting_for and (directive := hidden_by(runner.source.root)):\n",
                "        if waiting_for and (directive := ''):\n",
            ),
        ),
        (f"{_TESTS}::test_a_root_that_the_unit_hides_is_told_with_the_directive",),
    ),
    Remedy(
        "O7",
        "the directive is not recognised by the marks of its mounts",
        (
            Edit(
                "syncd/daemon/systemd.py",
                '    if "/systemd-private-" in mount_root:\n        return "PrivateTmp="\n',
                "",
            ),
        ),
        ("tests/unit/daemon/test_systemd.py::test_sandbox_that_hides_a_root_is_named",),
    ),
    Remedy(
        "O7",
        "homes are empty in the sandbox",
        (Edit(_UNIT, "ProtectHome=read-only\n", "ProtectHome=tmpfs\n"),),
        (f"{_POLICY}::test_the_service_may_read_everything_and_write_nothing_of_others",),
    ),
    Remedy(
        "O7",
        "a configured path lies where the sandbox would hide it, and install-service says nothing",
        (
            Edit(
                "syncd/cli/install/unit_file.py",
                "    if not wants.private_tmp:\n",
                "    if wants is None:\n",
            ),
        ),
        ("tests/unit/cli/test_install.py::test_tree_below_tmp_turns_private_tmp_off",),
    ),
)

"""Remedies: statefile."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

DAEMON = "syncd/daemon/daemon.py"
GROUP = "syncd/state/writer.py"
LOCK = "syncd/state/lock.py"
SCHEMA = "syncd/state/schema.py"
STATE = "syncd/state/state.py"
STATEDB = "syncd/state/sqlite.py"
TRANSFER = "syncd/transfer/uploader.py"
LOSS = "tests/scenarios/test_state_loss.py"
SURVIVAL = "tests/scenarios/test_state_survival.py"
TESTS_OF_STATE = "tests/unit/state/test_state.py"
TESTS_OF_TRANSFER = "tests/unit/transfer/test_uploader.py"
ENDS = f"{LOSS}::test_a_state_that_is_lost_ends_the_daemon_and_the_next_start_goes_on"
SET_ASIDE = f"{SURVIVAL}::test_a_damaged_database_is_kept_aside_and_a_new_one_made"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "D1",
        "a power cut takes acknowledged commits along",
        (
            Edit(
                STATEDB,
                'connection.execute("PRAGMA synchronous=FULL")',
                'connection.execute("PRAGMA synchronous=NORMAL")',
            ),
        ),
        (f"{SURVIVAL}::test_the_writer_is_durable",),
    ),
    Remedy(
        "D1",
        "an acknowledgement is told before its transaction is committed",
        (
            Edit(
                STATE,
                "return self._writing().run(operation)",
                "return self._writing().join(operation)  # type: ignore[return-value]",
            ),
        ),
        (f"{TESTS_OF_TRANSFER}::test_the_upload_id_is_recorded_before_the_first_part",),
    ),
    Remedy(
        "D2",
        "parts are sent to an upload whose id nobody would know after a death",
        (Edit(TRANSFER, "        self.state.set_upload_id(checkpoint.id, upload_id)\n", ""),),
        (f"{TESTS_OF_TRANSFER}::test_the_upload_id_is_recorded_before_the_first_part",),
    ),
    Remedy(
        "D2",
        "an unfinished upload is forgotten before it is aborted",
        (
            Edit(
                TRANSFER,
                "        if checkpoint.upload_id is None:\n            self._sweep(checkpoint)\n",
                "        self.state.drop_checkpoint(checkpoint.id)\n"
                "        if checkpoint.upload_id is None:\n            self._sweep(checkpoint)\n",
            ),
        ),
        ("tests/torture/deaths/test_deaths.py::test_every_moment",),
    ),
    Remedy(
        "D2",
        "the record goes in and the checkpoint stays: two effects instead of one transaction",
        (
            Edit(
                STATE,
                "            if checkpoint_id is not None:\n                rows.drop_checkpoint",
                "            if False:\n                rows.drop_checkpoint",
            ),
        ),
        (f"{TESTS_OF_STATE}::test_commit_takes_checkpoint_parts_and_failure_along",),
    ),
    Remedy(
        "D3",
        "a second connection may write or checkpoint beside the writer",
        (
            Edit(STATEDB, '        connection.execute("PRAGMA query_only=ON")\n', "        pass\n"),
            Edit(STATEDB, 'mode = "ro" if read_only else "rw"', 'mode = "rw"'),
        ),
        (f"{TESTS_OF_STATE}::test_only_one_connection_writes",),
    ),
    Remedy(
        "D4",
        "a transaction that read first fails at once when another program has written",
        (Edit(GROUP, 'connection.execute("BEGIN IMMEDIATE")', 'connection.execute("BEGIN")'),),
        (f"{TESTS_OF_STATE}::test_an_operation_that_reads_first_has_the_lock_already",),
    ),
    Remedy(
        "D4",
        "a write fails because another program has the lock for a moment",
        (Edit(STATEDB, "timeout=BUSY_SECONDS", "timeout=0.0"),),
        (f"{TESTS_OF_STATE}::test_a_write_waits_for_another_program",),
    ),
    Remedy(
        "D5",
        "a database that lost its content is taken for a new one",
        (
            Edit(SCHEMA, "    if not header:\n", "    if False:\n"),
            Edit(SCHEMA, "    if len(header) < 100 or not", "    if header and not"),
            Edit(SCHEMA, "    if application != APPLICATION_ID:\n", "    if False:\n"),
        ),
        (SET_ASIDE,),
    ),
    Remedy(
        "D5",
        "a damaged database is believed until a query meets the damage",
        (Edit(SCHEMA, '    if found != "ok":\n', "    if False:\n"),),
        (SET_ASIDE,),
    ),
    Remedy(
        "D5",
        "what was set aside is thrown away",
        (
            Edit(
                SCHEMA,
                'os.rename(path + suffix, f"{path}.set-aside-{now_ns}{suffix}")',
                "os.unlink(path + suffix)",
            ),
        ),
        (SET_ASIDE,),
    ),
    Remedy(
        "D5",
        "the database of another instance is taken for ours",
        (Edit(SCHEMA, "    if instance_id is not None and row[0] != instance_id:\n", "    if False:\n"),),
        (f"{SURVIVAL}::test_the_database_of_another_instance_is_not_believed",),
    ),
    Remedy(
        "D5",
        "a database that is gone is taken for a first start, and nobody is told",
        (
            Edit(
                SCHEMA,
                'return None if instance_id is None else "the state database is missing"',
                "return None",
            ),
        ),
        (f"{SURVIVAL}::test_a_missing_database_is_not_a_first_start",),
    ),
    Remedy(
        "D5",
        "rows go into a file that has no name any more",
        (
            Edit(
                GROUP,
                "        if self._broken is None and _identity(self._path) != self._file:\n",
                "        if False:\n",
            ),
        ),
        (f"{SURVIVAL}::test_a_database_that_goes_away_while_in_use_is_noticed",),
    ),
    Remedy(
        "D5",
        "the daemon sits on a state that is lost, and waits for a person",
        (Edit(DAEMON, "        if lost is not None:\n", "        if False:\n"),),
        (ENDS,),
    ),
    Remedy(
        "D5",
        "damage that the quick check does not see is opened again and again",
        (Edit(STATE, "if self._reader.damage or self._writer.is_damaged:\n", "if False:\n"),),
        (f"{LOSS}::test_what_a_query_found_damaged_is_not_opened_again",),
    ),
    Remedy(
        "D5",
        "a lost state costs every byte again: nobody asks the store before a file is sent",
        (
            Edit(
                "syncd/transfer/engine.py",
                "            there = self._reuse.adopt(key, meta.fingerprint)",
                "            there = None",
            ),
        ),
        ("tests/contract/test_lost_state.py::test_a_lost_state_costs_a_look_and_no_content",),
    ),
    Remedy(
        "D6",
        "a full disk is taken for a loss: only another start helps",
        (Edit(STATEDB, "_FATAL = frozenset({", "_FATAL = frozenset({sqlite3.SQLITE_FULL, "),),
        (f"{SURVIVAL}::test_a_full_database_recovers",),
    ),
    Remedy(
        "D6",
        "what was joined is forgotten when the disk is full",
        (
            Edit(
                GROUP,
                "joined = [ticket for ticket in tickets if not ticket.waits and not ticket.done]",
                "joined: list[_Ticket] = []",
            ),
        ),
        (f"{SURVIVAL}::test_a_full_database_recovers",),
    ),
    Remedy(
        "D6",
        "the log fills the disk, and then there is no room to write it back",
        (Edit(GROUP, "        if room is not None and room < _TIGHT_BYTES:\n", "        if False:\n"),),
        (f"{LOSS}::test_the_log_of_the_state_does_not_fill_a_small_disk",),
    ),
    Remedy(
        "D6",
        "a full disk is called a broken one, or a bug",
        (Edit(STATEDB, "    if room is not None and room < _LEAST_ROOM:\n", "    if False:\n"),),
        (f"{LOSS}::test_a_full_disk_is_named_at_the_start_and_forgotten_when_it_has_room",),
    ),
    Remedy(
        "D6",
        "the workers go on sending what cannot be recorded",
        (Edit("syncd/pipeline/workers.py", "        elif reaction.stop:\n", "        elif False:\n"),),
        ("tests/unit/pipeline/test_workers.py::test_a_disk_that_is_full_at_the_last_moment_is_noticed",),
    ),
    Remedy(
        "D7",
        "an old program reads, changes or sets aside a newer database",
        (Edit(SCHEMA, "    if version > len(STEPS):\n", "    if False:\n"),),
        (f"{SURVIVAL}::test_a_newer_schema_is_refused_and_untouched",),
    ),
    Remedy(
        "D7",
        "the manager tries an old program on a newer database every few seconds",
        (Edit("syncd/cli/exit_codes.py", "ConfigError | StateTooNew", "ConfigError"),),
        (f"{LOSS}::test_a_newer_state_is_a_matter_for_a_person",),
    ),
    Remedy(
        "D7",
        "a migration that dies half-way leaves a schema that no version knows",
        (
            Edit(
                SCHEMA,
                '        connection.execute("BEGIN IMMEDIATE")\n        for step in steps[version:]:\n',
                "        for step in steps[version:]:\n",
            ),
            Edit(
                SCHEMA,
                '        connection.execute(f"PRAGMA user_version={len(steps)}")\n'
                '        connection.execute("COMMIT")\n',
                '        connection.execute(f"PRAGMA user_version={len(steps)}")\n',
            ),
        ),
        (f"{SURVIVAL}::test_a_migration_killed_half_way_has_not_happened",),
    ),
    Remedy(
        "D7",
        "a migration leaves nothing to go back to",
        (Edit(SCHEMA, '        _keep_copy(connection, f"{path}.version-{version}")\n', ""),),
        (f"{SURVIVAL}::test_a_migration_keeps_a_copy",),
    ),
    Remedy(
        "D8",
        "two daemons write one state",
        (
            Edit(
                LOCK,
                "    except BlockingIOError:\n        return False\n",
                "    except BlockingIOError:\n        return True\n",
            ),
        ),
        (f"{SURVIVAL}::test_a_second_daemon_is_refused_with_the_pid_of_the_first",),
    ),
    Remedy(
        "D9",
        "the identity is an empty file after a power cut",
        (
            Edit(
                SCHEMA,
                '        os.write(descriptor, instance_id.encode("ascii") + b"\\n")\n'
                "        os.fsync(descriptor)\n",
                '        os.write(descriptor, instance_id.encode("ascii") + b"\\n")\n',
            ),
        ),
        (f"{LOSS}::test_a_file_has_its_name_only_when_its_content_is_on_the_disk",),
    ),
    Remedy(
        "D9",
        "a new database has lost its name after a power cut",
        (
            Edit(
                SCHEMA,
                "    os.rename(draft, path)\n    _sync_directory(directory)\n\n\ndef set_aside",
                "    os.rename(draft, path)\n\n\ndef set_aside",
            ),
        ),
        (f"{LOSS}::test_a_file_has_its_name_only_when_its_content_is_on_the_disk",),
    ),
)

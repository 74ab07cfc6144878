"""Remedies: multipart uploads, and what their stores and networks do to them."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

_TRANSFER = "syncd/transfer/uploader.py"
_CLIENT = "syncd/storage/http/store.py"
_TESTS = "tests/unit/transfer/test_uploader.py"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "U1",
        "an upload whose id was lost stays in the store",
        (
            Edit(
                _TRANSFER,
                "        self._sweep(checkpoint)\n        return self.store",
                "        return self.store",
            ),
        ),
        (f"{_TESTS}::test_a_lost_answer_to_create_is_made_up_for_at_once",),
    ),
    Remedy(
        "U1",
        "after a death before the id was kept, the upload that it made stays",
        (
            Edit(
                _TRANSFER,
                "        if not fresh:\n            self._sweep(checkpoint)\n",
                "",
            ),
        ),
        (f"{_TESTS}::test_lost_answers_to_create_leave_no_orphan",),
    ),
    Remedy(
        "U1",
        "create is repeated blindly, and leaves an orphan each time",
        (
            Edit(
                "syncd/storage/retry.py",
                "self._inner.create_multipart_upload(key, meta), repeat_unknown=False)",
                "self._inner.create_multipart_upload(key, meta))",
            ),
        ),
        ("tests/unit/storage/test_retry.py::test_create_is_not_repeated_when_its_outcome_is_unknown",),
    ),
    Remedy(
        "U1",
        "somebody else's upload of the same key is aborted",
        (
            Edit(
                _TRANSFER,
                "            if upload.initiated_ns is None or upload.initiated_ns >= since_ns:",
                "            if upload is not None:",
            ),
        ),
        (f"{_TESTS}::test_anothers_upload_of_the_same_key_is_not_swept",),
    ),
    Remedy(
        "U2",
        "a part whose answer was lost ends the upload",
        (
            Edit(
                "syncd/storage/retry.py",
                "return self._repeat(lambda: self._inner.upload_part(key, upload_id, number, body))",
                "return self._inner.upload_part(key, upload_id, number, body)",
            ),
        ),
        ("tests/unit/storage/test_retry.py::test_a_verb_is_repeated_when_its_outcome_is_unknown",),
    ),
    Remedy(
        "U2",
        "a part that arrives damaged is acknowledged",
        (
            Edit(
                "syncd/storage/bos/dialect.py",
                'if etag.lower() != sent and "x-bce-server-side-encryption" not in response.headers:',
                "if not sent:",
            ),
        ),
        ("tests/unit/storage/bos/test_dialect.py::test_another_etag_than_the_md5_sent_is_a_corrupt_body",),
    ),
    Remedy(
        "U3",
        "a complete whose answer was lost is an upload that failed",
        (
            Edit(
                _TRANSFER,
                "            own = self._own_object(job, checkpoint)\n            if own is None:\n",
                "            own = None\n            if own is None:\n",
            ),
        ),
        (f"{_TESTS}::test_a_lost_answer_to_complete_is_recognised_by_the_token",),
    ),
    Remedy(
        "U3",
        "the second complete says that the upload is gone, and everything is sent again",
        (
            Edit(
                _TRANSFER,
                "                    receipt = self._own_object(job, checkpoint)\n",
                "                    receipt = None\n",
            ),
        ),
        (f"{_TESTS}::test_after_a_death_behind_complete_the_object_is_accepted",),
    ),
    Remedy(
        "U3",
        "somebody else's object is taken for ours",
        (Edit(_TRANSFER, "ours = info.token == checkpoint.token", "ours = True"),),
        (f"{_TESTS}::test_anothers_object_after_a_lost_complete_is_not_taken_for_ours",),
    ),
    Remedy(
        "U4",
        "S3: a success without its document is believed",
        (
            Edit(
                "syncd/storage/s3/dialect.py",
                'response).get("ETag"))',
                'response).get("ETag")) or "?"',
            ),
        ),
        ("tests/unit/storage/s3/test_dialect.py::test_a_document_without_its_field_is_no_success",),
    ),
    Remedy(
        "U4",
        "S3: a page of a proxy, or half a document, is believed",
        (
            Edit(
                "syncd/storage/s3/xml.py",
                'if parsed is None or parsed.name not in (root, stem, f"{stem}Response"):',
                "if parsed is None:",
            ),
            Edit(
                "syncd/storage/s3/dialect.py",
                'response).get("ETag"))',
                'response).get("ETag")) or "?"',
            ),
        ),
        (
            "tests/unit/storage/s3/test_dialect.py::test_200_without_the_right_document_is_no_success",
            "tests/unit/storage/s3/test_dialect.py::test_every_cut_of_a_document_is_no_success",
        ),
    ),
    Remedy(
        "U4",
        "BOS: an error inside a success is a success (the missing ETag is a second line)",
        (
            Edit(
                "syncd/storage/bos/dialect.py",
                "if not 200 <= response.status < 300 or carries_error(response):",
                "if not 200 <= response.status < 300:",
            ),
            Edit(
                "syncd/storage/bos/dialect.py",
                'etag = bos_values.etag(self._members(request, response).get("eTag"))',
                'etag = bos_values.etag(self._members(request, response).get("eTag")) or "?"',
            ),
        ),
        ("tests/unit/storage/bos/test_dialect.py::test_a_success_is_one_only_if_it_says_so",),
    ),
    Remedy(
        "U5",
        "a complete that drips white space is given up, or waited for without end",
        (
            Edit(
                "syncd/storage/http/deadlines.py",
                "            self._deadline = now + SLOW_ANSWER_SECONDS\n",
                "            pass\n",
            ),
        ),
        (
            "tests/unit/storage/http/test_deadlines.py::test_a_slow_answer_may_be_silent_or_drip_until_its_deadline",
        ),
    ),
    Remedy(
        "U5",
        "white space before the document makes it unreadable",
        (Edit("syncd/storage/s3/xml.py", "    text = body.lstrip()\n", "    text = body\n"),),
        ("tests/unit/storage/s3/test_dialect.py::test_white_space_before_a_document_is_tolerated",),
    ),
    Remedy(
        "U6",
        "a large file has more parts than the store takes",
        (
            Edit(
                "syncd/core/parts.py",
                "max(wanted_part_size, limits.min_part_size, _ceil_div(size, limits.max_parts))",
                "max(wanted_part_size, limits.min_part_size)",
            ),
        ),
        ("tests/unit/core/test_parts.py::test_part_size",),
    ),
    Remedy(
        "U6",
        "parts are smaller than the store takes",
        (
            Edit(
                "syncd/core/parts.py",
                "max(wanted_part_size, limits.min_part_size, _ceil_div(size, limits.max_parts))",
                "max(wanted_part_size, _ceil_div(size, limits.max_parts))",
            ),
        ),
        ("tests/unit/core/test_parts.py::test_parts_stay_within_the_limits_of_any_store",),
    ),
    Remedy(
        "U6",
        "a minimum that only this store has is met again and again",
        (
            Edit(
                _TRANSFER,
                "        self.state.learn(self.store.store_id, MIN_PART_SIZE, str(larger))\n",
                "",
            ),
        ),
        (f"{_TESTS}::test_parts_that_are_too_small_teach_the_store_s_minimum",),
    ),
    Remedy(
        "U7",
        "an upload that vanished fails the file",
        (
            Edit(
                _TRANSFER,
                "self.state.drop_checkpoint(checkpoint.id)\n                except PartsRefused",
                "raise\n                except PartsRefused",
            ),
        ),
        (f"{_TESTS}::test_an_upload_that_vanishes_in_the_middle_is_begun_anew",),
    ),
    Remedy(
        "U7",
        "a store that loses every upload is sent the same bytes without end",
        (Edit(_TRANSFER, "_MAX_RESTARTS = 2\n", "_MAX_RESTARTS = 20\n"),),
        (f"{_TESTS}::test_restarts_are_bounded",),
    ),
    Remedy(
        "U8",
        "parts behind the first page are sent again",
        (Edit(_CLIENT, "            if following is None:\n                break\n", "            break\n"),),
        ("tests/unit/storage/http/test_store.py::test_all_pages_of_parts_are_read_in_order",),
    ),
    Remedy(
        "U8",
        "a marker that does not move is followed without end",
        (Edit(_CLIENT, "if following <= after or following > most:", "if following > most:"),),
        ("tests/unit/storage/http/test_store.py::test_a_marker_of_parts_that_does_not_move_ends_the_list",),
    ),
    Remedy(
        "U8",
        "a list of uploads that repeats itself is read without end",
        (Edit(_CLIENT, "if following == after or not fresh:", "if following == after:"),),
        (
            "tests/unit/storage/http/test_store.py::test_a_server_that_ignores_markers_ends_the_list_of_uploads",
        ),
    ),
    Remedy(
        "U9",
        "a store that encrypts has no part that counts",
        (
            Edit(
                "syncd/storage/bos/dialect.py",
                ' and "x-bce-server-side-encryption" not in response.headers:',
                ":",
            ),
        ),
        ("tests/unit/storage/bos/test_dialect.py::test_the_etag_of_an_encrypted_object_is_not_compared",),
    ),
    Remedy(
        "U9",
        "a recorded part is only kept where its ETag is an MD5",
        (
            Edit(
                "syncd/core/parts.py",
                "        elif record is None or record.digest is None:\n",
                "        elif record is None or len(part.etag) != 32:\n",
            ),
        ),
        (f"{_TESTS}::test_etags_are_opaque",),
    ),
    Remedy(
        "U10",
        "S3: a slow connection, told as 400, is taken for final",
        (Edit("syncd/storage/s3/errors.py", '    "RequestTimeout": _CUT,\n', ""),),
        ("tests/unit/storage/s3/test_dialect.py::test_an_error_is_what_its_code_says_or_else_its_status",),
    ),
    Remedy(
        "U10",
        "BOS: a front end's hiccup, told as 400, is taken for final",
        (
            Edit(
                "syncd/storage/bos/errors.py",
                '    "Http400": Reaction(StoreUnavailable, "BOS\'s front end could not take the request"),\n',
                "",
            ),
        ),
        ("tests/unit/storage/bos/test_dialect.py::test_every_code_has_one_reaction",),
    ),
    Remedy(
        "U10",
        "what will not change is asked again and again",
        (
            Edit(
                "syncd/storage/retry.py",
                "            except StoreUnavailable as error:\n",
                "            except Exception as caught:\n"
                "                error = StoreUnavailable(str(caught))\n",
            ),
        ),
        ("tests/unit/storage/test_retry.py::test_what_will_not_change_is_not_repeated",),
    ),
    Remedy(
        "U10",
        "wrong keys cost one request for each file",
        (
            Edit(
                "syncd/core/reactions.py",
                "return Reaction(defer_seconds=1.0, hold=True, pause_seconds=PAUSE_SECONDS)",
                "return Reaction(defer_seconds=1.0, hold=True)",
            ),
        ),
        ("tests/unit/core/test_reactions.py::test_a_refused_account_pauses_the_store_and_blames_no_file",),
    ),
    Remedy(
        "U11",
        "a store that is down is asked by every file",
        (Edit("syncd/pipeline/queue.py", " or not self._breaker.allows(now):", ":"),),
        (
            "tests/unit/pipeline/test_queue.py::test_a_store_that_stumbles_again_and_again_is_left_alone",
            "tests/scenarios/test_outage.py::test_a_long_outage_costs_few_requests_and_ends_in_order",
        ),
    ),
    Remedy(
        "U11",
        "clients that failed together come back together",
        (
            Edit(
                "syncd/core/backoff.py",
                "return chance * ceiling(attempt, schedule)",
                "return ceiling(attempt, schedule)",
            ),
        ),
        (
            "tests/unit/core/test_backoff.py::test_delay",
            "tests/unit/storage/test_retry.py::test_pauses_are_jittered_all_the_way_down",
        ),
    ),
    Remedy(
        "U11",
        "what the store asks for is not heard",
        (
            Edit(
                "syncd/storage/retry.py",
                "        return max(own, wish) if wish <= self._schedule.cap_seconds else None\n",
                "        return own\n",
            ),
        ),
        ("tests/unit/storage/test_retry.py::test_the_wish_of_the_store_is_a_least_pause",),
    ),
    Remedy(
        "U11",
        "a probe of a store that is down is five requests",
        (
            Edit(
                "syncd/storage/retry.py",
                "        if self._is_shut():\n            return None\n",
                "",
            ),
        ),
        (
            "tests/unit/storage/test_retry.py::test_a_probe_is_one_request",
            "tests/scenarios/test_outage.py::test_a_long_outage_costs_few_requests_and_ends_in_order",
        ),
    ),
    Remedy(
        "U11",
        "a store that wants fewer requests gets as many as before",
        (Edit("syncd/transfer/slots.py", "            self._open = max(1.0, self._open / 2)\n", ""),),
        (
            "tests/unit/transfer/test_slots.py::test_a_store_that_is_busy_gets_half_as_many_requests",
            "tests/unit/transfer/test_slots.py::test_one_moment_of_business_narrows_the_door_once",
        ),
    ),
    Remedy(
        "U11",
        "nobody hears that a store wants fewer requests",
        (Edit("syncd/pipeline/store_runner.py", "            on_busy=self._bounds.throttled,\n", ""),),
        ("tests/unit/pipeline/test_pipeline.py::test_a_line_wires_its_store_to_its_meter",),
    ),
    Remedy(
        "U12",
        "requests are signed with a wrong clock for ever",
        (
            Edit(
                _CLIENT,
                "self._dialect.sign(request, credentials, sent_at + self._skew.seconds)",
                "self._dialect.sign(request, credentials, sent_at)",
            ),
        ),
        (
            "tests/unit/storage/http/test_store.py::test_a_refusal_for_the_time_is_signed_anew_with_the_server_s",
        ),
    ),
    Remedy(
        "U13",
        "a bucket in another region is never reached",
        (
            Edit(
                "syncd/storage/s3/dialect.py",
                "            self._signer = Signer(told.region)\n",
                "            pass\n",
            ),
        ),
        ("tests/unit/storage/s3/test_dialect.py::test_a_region_that_the_server_names_is_used_from_then_on",),
    ),
    Remedy(
        "U16",
        "a file comes back after a delete whose answer was lost, and its record says that all is well",
        (
            Edit(
                "syncd/transfer/engine.py",
                "self._doubts.keep(ref, recorded)  # whatever becomes of the answer, or of us",
                "pass",
            ),
        ),
        (
            "tests/scenarios/test_late_removal.py::test_a_file_that_comes_back_after_a_lost_delete_is_sent_again",
            "tests/scenarios/test_late_removal.py::test_doubt_survives_the_process",
        ),
    ),
    Remedy(
        "U16",
        "the store is not asked before content that it still has is sent again",
        (
            Edit(
                "syncd/transfer/engine.py",
                "            there = self._doubts.ask(recorded)",
                "            there = None",
            ),
        ),
        ("tests/scenarios/test_late_removal.py::test_the_store_is_asked_before_anything_is_sent_again",),
    ),
    Remedy(
        "U16",
        "a delete that was carried out late removes what had come back, and nobody looks",
        (
            Edit(
                "syncd/transfer/engine.py",
                "        if recorded is not None and doubt_ns:",
                "        if recorded is None:",
            ),
        ),
        ("tests/scenarios/test_late_removal.py::test_a_delete_that_comes_late_is_made_up_for",),
    ),
    Remedy(
        "U16",
        "a request whose answer was lost may be carried out late, and its file is looked at by the next scan",
        (
            Edit(
                "syncd/pipeline/workers.py",
                "if outcome.doubt_seconds is not None and not self._once:",
                "if False:",
            ),
        ),
        (
            "tests/scenarios/test_late_removal.py::test_a_doubt_holds_up_nobody_and_is_looked_into_when_it_can_be",
        ),
    ),
    Remedy(
        "U16",
        "the object of another file is deleted, which has the key by now",
        (
            Edit(
                "syncd/transfer/engine.py", "if self._is_anothers(recorded.key, ref):", "if not recorded.key:"
            ),
        ),
        (
            "tests/unit/transfer/test_engine.py::test_an_object_that_belongs_to_another_file_by_now_is_not_deleted",
        ),
    ),
)

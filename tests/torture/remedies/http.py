"""Remedies: what `requests`, sockets and servers do that would lose data or leak keys."""

from __future__ import annotations

from tests.torture.remedies.kinds import Edit, Remedy

_ADAPTER = "syncd/storage/http/requests_adapter.py"
_TRANSPORT = "syncd/storage/http/transport.py"
_PATIENCE = "syncd/storage/http/deadlines.py"
_WIRE = "syncd/storage/http/guarded_socket.py"
_TESTS = "tests/unit/storage/http/test_transport.py"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "H1",
        "a redirect is followed, with or without its body",
        (
            Edit(
                _ADAPTER,
                "        answer = self.send(\n            prepared,",
                "        session = requests.Session()\n"
                "        session.mount('http://', self)\n"
                "        answer = session.send(\n            prepared,",
            ),
        ),
        (f"{_TESTS}::test_a_redirect_is_an_answer",),
    ),
    Remedy(
        "H1",
        "S3: a redirect is a success",
        (
            Edit(
                "syncd/storage/s3/dialect.py",
                "        if response.status not in (statuses or (200,)):\n",
                "        if response.status >= 400:\n",
            ),
        ),
        ("tests/contract/test_hostile_answers.py::test_a_redirect_is_no_success",),
    ),
    Remedy(
        "H1",
        "BOS: a redirect is a success",
        (
            Edit(
                "syncd/storage/bos/dialect.py",
                "if not 200 <= response.status < 300 or",
                "if not 200 <= response.status < 400 or",
            ),
        ),
        ("tests/contract/test_hostile_answers.py::test_a_redirect_is_no_success",),
    ),
    Remedy(
        "H2",
        "a netrc entry replaces our signature",
        (
            Edit(
                _ADAPTER,
                "    prepared.body = request.body if len(request.body) else None"
                "  # type: ignore[assignment]  # any buffer will do\n",
                "    prepared.body = request.body if len(request.body) else None\n"
                "    prepared.prepare_auth(requests.utils.get_netrc_auth(prepared.url))\n",
            ),
        ),
        (f"{_TESTS}::test_nothing_is_taken_from_the_environment",),
    ),
    Remedy(
        "H3",
        "an empty body has no length, and goes out in chunks or is refused",
        (
            Edit(
                "syncd/storage/http/http1.py",
                '    if size or request.method in ("PUT", "POST"):\n',
                "    if size:\n",
            ),
        ),
        (f"{_TESTS}::test_the_body_goes_out_whole_with_its_length",),
    ),
    Remedy(
        "H4",
        "a file that was shortened is sent with what happens to be in memory",
        (
            Edit(
                "syncd/sources/files.py",
                '                raise FileChanged(f"the file ends after {offset + done} bytes: '
                'it was shortened meanwhile")\n',
                "                return\n",
            ),
        ),
        ("tests/unit/sources/test_fingerprint.py::test_a_range_is_read_exactly",),
    ),
    Remedy(
        "H5",
        "a peer that sends a byte now and then holds a request for ever",
        (
            Edit(
                _PATIENCE,
                "        if now - self._window_began >= self._http.progress_seconds:\n",
                "        if now < self._window_began:\n",
            ),
        ),
        (
            "tests/unit/storage/http/test_deadlines.py::test_bytes_that_only_drip_are_given_up",
            f"{_TESTS}::test_a_dripping_answer_is_given_up",
        ),
    ),
    Remedy(
        "H5",
        "a peer that is silent holds a request for ever",
        (
            Edit(
                _PATIENCE,
                "        if now - self._last_byte >= self._silence_seconds:\n",
                "        if now < self._last_byte:\n",
            ),
        ),
        ("tests/unit/storage/http/test_deadlines.py::test_silence_is_given_up_when_its_time_is_over",),
    ),
    Remedy(
        "H5",
        "a slow line is taken for a dead one, because the kernel's queue is not looked at",
        (Edit(_WIRE, "                self.patience.moved(moved)\n", "                pass\n"),),
        (f"{_TESTS}::test_a_slow_reader_that_moves_is_waited_for",),
    ),
    Remedy(
        "H6",
        "a refusal that comes before the body is out is not looked for, between chunks and when blocked",
        (
            Edit(
                _WIRE,
                "                self.patience.ask()\n                self._look_for_answer()\n",
                "                self.patience.ask()\n",
            ),
            Edit(
                _WIRE,
                "                if self._wait(select.POLLOUT | select.POLLIN) & select.POLLIN:\n"
                "                    self._look_for_answer()\n",
                "                self._wait(select.POLLOUT)\n",
            ),
        ),
        (f"{_TESTS}::test_an_early_answer_is_seen_before_the_body_is_out",),
    ),
    Remedy(
        "H6",
        "a body that is cut off is sent again and again, although it would always be refused",
        (
            Edit(
                "syncd/storage/http/store.py",
                "                self._ask(ask)\n            raise\n\n    def _ask",
                "                pass\n            raise\n\n    def _ask",
            ),
        ),
        ("tests/unit/storage/http/test_store.py::test_a_body_that_was_cut_off_is_asked_about",),
    ),
    Remedy(
        "H6",
        "any trouble of TLS is taken for distrust, and stops the store",
        (
            Edit(
                _ADAPTER,
                "    distrust = _first(causes, ssl.SSLCertVerificationError)\n",
                "    distrust = _first(causes, ssl.SSLError)\n",
            ),
        ),
        (f"{_TESTS}::test_a_server_without_tls_is_no_tls_server",),
    ),
    Remedy(
        "H7",
        "a connection that died of age costs a pause",
        (
            Edit(
                "syncd/storage/http/errors.py",
                "retry_after_seconds=0.0 if reused else None,",
                "retry_after_seconds=None,",
            ),
        ),
        (f"{_TESTS}::test_a_reused_connection_that_breaks_may_be_tried_again_at_once",),
    ),
    Remedy(
        "H7",
        "a connection that the server has closed is used",
        (
            Edit(
                "syncd/storage/http/socket_transport.py",
                " and not connection.is_stale():",
                ":",
            ),
        ),
        (
            f"{_TESTS}::test_a_connection_that_the_server_closed_meanwhile_is_replaced",
            f"{_TESTS}::test_words_that_nobody_asked_for_are_no_answer",
        ),
    ),
    Remedy(
        "H8",
        "the library repeats a body under the old signature",
        (Edit(_ADAPTER, "max_retries=0)", "max_retries=3)"),),
        (
            f"{_TESTS}::test_a_lost_answer_is_not_asked_for_again_by_the_transport",
            f"{_TESTS}::test_a_lost_answer_leaves_the_outcome_unknown",
            f"{_TESTS}::test_without_a_connection_nothing_was_done",
        ),
    ),
    Remedy(
        "H8",
        "a repeated request carries the signature of the first",
        (
            Edit(
                "syncd/storage/http/store.py",
                "        sent_at = self._now()\n",
                "        sent_at = self._sent_at = getattr(self, '_sent_at', 0.0) or self._now()\n",
            ),
        ),
        (
            "tests/unit/storage/http/test_store.py::test_every_send_is_signed_with_the_keys_and_the_time_of_the_moment",
        ),
    ),
    Remedy(
        "H10",
        "a path is not sent as it was signed",
        (
            Edit(
                _ADAPTER,
                '        return "/" + str(request.url).split("/", 3)[3]\n',
                '        return "/" + str(request.url).split("/", 3)[3].replace("//", "/")\n',
            ),
        ),
        (f"{_TESTS}::test_the_path_goes_out_as_it_was_signed",),
    ),
    Remedy(
        "H10",
        "a key with a dot segment becomes another key on the way",
        (
            Edit(
                "syncd/core/paths.py",
                '    if any(segment in (".", "..") for segment in key.split("/")):\n',
                '    if key == "..":\n',
            ),
        ),
        ("tests/unit/core/test_paths.py::test_keys_that_no_store_can_take",),
    ),
    Remedy(
        "H11",
        "two threads share a connection",
        (
            Edit(
                _TRANSPORT,
                "                since, adapter = self._idle.pop()\n",
                "                since, adapter = self._idle[-1]\n",
            ),
        ),
        (f"{_TESTS}::test_what_one_thread_has_is_not_lent_to_another",),
    ),
    Remedy(
        "H15",
        "an answer that was lost counts as a failure that is certain",
        (
            Edit(
                "syncd/storage/http/errors.py",
                '        f"lost the connection to {host}: {reason}",\n        outcome_unknown=True,\n',
                '        f"lost the connection to {host}: {reason}",\n        outcome_unknown=False,\n',
            ),
        ),
        (f"{_TESTS}::test_a_lost_answer_leaves_the_outcome_unknown",),
    ),
)

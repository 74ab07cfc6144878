"""Credentials: where keys come from, when they are read again, and what is said when there are none.

Scenarios:

- given keys, key files, mixtures; half a pair
- a file that changes, that is replaced, that is missing, unreadable, empty, or not one line
- the chain: environment, shared files, profiles that do not exist, nothing at all, botocore not installed
- secrets are never shown
"""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from syncd.config import load
from syncd.core.errors import AccessRefused, Stopped
from syncd.storage.http import credentials
from syncd.storage.http.connect import Proxies
from syncd.storage.http.credentials import MASK, MOST_HIDDEN, Helper, Hidden, credentials_source, hidden
from syncd.storage.http.messages import Credentials
from syncd.storage.settings import HttpSettings, KeySettings
from tests.support.waiting import wait_until


@pytest.fixture
def files(tmp_path: Path) -> KeySettings:
    """Two key files, as systemd's LoadCredential makes them."""
    (tmp_path / "id").write_text("AKID\n")
    (tmp_path / "secret").write_text("  s3cr3t\n")
    return KeySettings(access_key_file=str(tmp_path / "id"), secret_key_file=str(tmp_path / "secret"))


def shown(value: Credentials) -> tuple[str, str, str]:
    return value.access_key_id, value.secret_access_key, value.session_token


def test_given_keys_are_given() -> None:
    """As they stand in the settings."""
    source = credentials_source(KeySettings("AKID", "s3cr3t", "token"), chain=True)
    assert shown(source()) == ("AKID", "s3cr3t", "token")


def test_keys_are_read_from_files(files: KeySettings) -> None:
    """Without the white space around them."""
    assert shown(credentials_source(files, chain=True)()) == ("AKID", "s3cr3t", "")


def test_keys_may_come_from_both(files: KeySettings, tmp_path: Path) -> None:
    """The identifier in the settings, secrets in files."""
    (tmp_path / "token").write_text("tok\n")
    keys = KeySettings(
        "AKID2", secret_key_file=files.secret_key_file, session_token_file=str(tmp_path / "token")
    )
    assert shown(credentials_source(keys, chain=False)()) == ("AKID2", "s3cr3t", "tok")


@pytest.mark.parametrize(
    "content", [b"AKID\r\n", b"\xef\xbb\xbfAKID\n", b"\tAKID \n\n", "AKID\u00a0".encode()]
)
def test_what_editors_leave_around_a_key_does_not_belong_to_it(files: KeySettings, content: bytes) -> None:
    """Line ends of Windows, a byte order mark, blanks."""
    Path(files.access_key_file).write_bytes(content)
    assert shown(credentials_source(files, chain=False)())[0] == "AKID"


@pytest.mark.parametrize("key", ["A KID", "ÄKID", "AK\tID"])
def test_a_key_that_no_header_can_hold_is_refused_before_it_is_sent(key: str) -> None:
    """It would fail with every request, and the words would blame the header or the store."""
    for keys, what in (
        (KeySettings(key, "s"), "access key"),
        (KeySettings("AKID", "s", session_token=key), "session token"),
    ):
        with pytest.raises(AccessRefused, match=f"the {what} contains a blank or another character"):
            credentials_source(keys, chain=False)()


def test_a_file_that_is_replaced_is_read_again(files: KeySettings, tmp_path: Path) -> None:
    """Rotated keys are used without a restart, even of the same length and time."""
    source = credentials_source(files, chain=False)
    source()
    stat = os.stat(files.secret_key_file)
    fresh = tmp_path / "fresh"
    fresh.write_text("  S3CR3T\n")
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh.rename(files.secret_key_file)
    assert shown(source())[1] == "S3CR3T"


def test_keys_stay_while_their_file_system_is_silent(
    files: KeySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were read; before that there are none, and the file is not touched."""
    monkeypatch.setattr(credentials, "_LOOK_SECONDS", 0.0)
    silent = ["is silent"]
    source = credentials_source(
        files, chain=False, silence=lambda path: "".join([f"{path} {words}" for words in silent])
    )
    with pytest.raises(AccessRefused, match=f"the key file {files.access_key_file} is silent"):
        source()
    silent.clear()
    keys = shown(source())
    silent.append("is silent")
    Path(files.secret_key_file).unlink()
    assert shown(source()) == keys


def test_a_file_that_is_rewritten_is_read_again(files: KeySettings) -> None:
    """In place."""
    source = credentials_source(files, chain=False)
    source()
    Path(files.secret_key_file).write_text("longer than before")
    assert shown(source())[1] == "longer than before"


def test_a_file_that_did_not_change_is_not_read_again(
    files: KeySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for with every request."""
    source = credentials_source(files, chain=False)
    first = source()

    def refuse(*_arguments: object, **_named: object) -> Any:
        raise AssertionError("opened again")

    monkeypatch.setattr(builtins, "open", refuse)
    assert shown(source()) == shown(first)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe", "text"),
        (b"a\nb\n", "one line"),
        (b"a\0", "cannot be seen"),
        ("a\u200b".encode(), "cannot be seen"),
        ("pipe", "empty"),
    ],
)
def test_a_key_file_that_is_none_is_named(
    files: KeySettings, content: bytes | str | None, words: str
) -> None:
    """With its path and its setting, and without what is in it."""
    path = Path(files.secret_key_file)
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        os.mkfifo(path)
    with pytest.raises(AccessRefused) as caught:
        credentials_source(files, chain=False)()
    assert caught.value.credentials
    message = str(caught.value)
    assert [word for word in (str(path), words, "secret_key_file") if word not in message] == []


def test_a_key_file_that_cannot_be_opened_is_named(files: KeySettings, tmp_path: Path) -> None:
    """A directory in its place will do for that, whichever user runs the test."""
    os.unlink(files.access_key_file)
    os.mkdir(files.access_key_file)
    with pytest.raises(AccessRefused, match="access_key_file"):
        credentials_source(files, chain=False)()


def test_a_key_file_that_comes_back_is_used(files: KeySettings) -> None:
    """The store is probed again, and then it works."""
    source = credentials_source(files, chain=False)
    os.rename(files.secret_key_file, files.secret_key_file + ".away")
    with pytest.raises(AccessRefused):
        source()
    os.rename(files.secret_key_file + ".away", files.secret_key_file)
    assert shown(source())[1] == "s3cr3t"


@pytest.mark.parametrize("keys", [KeySettings(access_key_id="AKID"), KeySettings(secret_access_key="s3cr3t")])
def test_half_a_pair_is_refused(keys: KeySettings) -> None:
    """The missing half is named; the chain does not step in."""
    with pytest.raises(AccessRefused) as caught:
        credentials_source(keys, chain=True)()
    assert "s3cr3t" not in str(caught.value)


def test_no_keys_at_all_are_refused_where_there_is_no_chain() -> None:
    """With what to set."""
    with pytest.raises(AccessRefused, match="access_key_id"):
        credentials_source(KeySettings(), chain=False)()


# ---- the chain -------------------------------------------------------------------------------------------


@pytest.fixture
def empty_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No source of the chain has anything; returns the shared file that it would read."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path / "credentials"


def test_the_chain_takes_the_environment(empty_chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variables, token included."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "envsecret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "envtoken")
    assert shown(credentials_source(KeySettings(), chain=True)()) == ("ENVKEY", "envsecret", "envtoken")


def test_the_environment_needs_no_botocore(empty_chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pair is no pair, and what is missing is named."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
    source = credentials_source(KeySettings(), chain=True)
    with pytest.raises(AccessRefused, match="without AWS_SECRET_ACCESS_KEY; set both"):
        source()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "envsecret")
    assert shown(source()) == ("ENVKEY", "envsecret", "")


def test_keys_that_the_store_refused_are_looked_up_again(empty_chain: Path) -> None:
    """By the next request, but for refusals at most once a second, however many workers had them: one in
    between is remembered. Keys that were not refused are not looked up.
    """
    now = [0.0]
    source = credentials._Chain(clock=lambda: now[0])
    seen = []
    for secret, at, refused in (
        ("old", 0.0, False),
        ("one", 0.1, True),
        ("two", 0.5, True),
        ("two", 2.0, False),
        ("three", 60.0, False),
        ("three", 60.0, True),
    ):
        empty_chain.write_text(f"[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = {secret}\n")
        now[0] = at
        if refused:
            source.forget()
        seen.append(shown(source())[1])
    assert seen == ["old", "one", "one", "two", "two", "three"]


def test_the_chain_reads_shared_files_again(empty_chain: Path) -> None:
    """Not with every request, but without a restart."""
    now = [0.0]
    source = credentials._Chain(clock=lambda: now[0])
    for secret, at, expected in (("one", 0.0, "one"), ("two", 1.0, "one"), ("two", 301.0, "two")):
        empty_chain.write_text(f"[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = {secret}\n")
        now[0] = at
        assert shown(source()) == ("FILEKEY", expected, "")


def test_an_empty_chain_says_what_to_set(empty_chain: Path) -> None:
    """And is asked again the next time."""
    source = credentials_source(KeySettings(), chain=True)
    with pytest.raises(AccessRefused, match="AWS_ACCESS_KEY_ID"):
        source()
    empty_chain.write_text("[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = s\n")
    assert shown(source())[0] == "FILEKEY"


def test_a_profile_that_does_not_exist_is_refused(empty_chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's own error stops at the border."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AccessRefused, match="nobody"):
        credentials_source(KeySettings(), chain=True)()


def test_whatever_fails_in_the_chain_is_trouble_with_keys(
    empty_chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper program that is not there, one that fails, one that prints nonsense; also when renewing."""
    monkeypatch.setenv("AWS_PROFILE", "p")
    for helper in ("/nowhere/helper", "false", "echo nonsense"):
        (empty_chain.parent / "config").write_text(f"[profile p]\ncredential_process = {helper}\n")
        with pytest.raises(AccessRefused) as caught:
            credentials_source(KeySettings(), chain=True)()
        assert caught.value.credentials

    class Renewing:
        def get_frozen_credentials(self) -> object:
            raise FileNotFoundError(2, "No such file or directory", "/nowhere/helper")

    with pytest.raises(AccessRefused, match="/nowhere/helper"):
        credentials._frozen(Renewing())


@pytest.fixture
def helper(empty_chain: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A helper program that notes that it was begun, and answers with the file `go` once that is there."""
    place = empty_chain.parent
    program = place / "helper"
    waits = f"while [ ! -e {place}/go ]; do sleep 0.05; done"
    program.write_text(f"#!/bin/sh\necho x >> {place}/begun\n{waits}\ncat {place}/go\n")
    program.chmod(0o755)
    (place / "config").write_text(f"[profile p]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    yield place
    (place / "go").touch()
    for thread in threading.enumerate():
        if thread.name == "keys":
            thread.join()


def answer(key: str, lives_seconds: float) -> str:
    until = datetime.now(UTC) + timedelta(seconds=lives_seconds)
    return json.dumps(
        {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "s", "Expiration": until.isoformat()}
    )


def test_a_helper_that_hangs_is_trouble_with_keys_and_is_not_begun_twice_at_once(
    helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request waits so long for keys, or until the stop. Then its program ends, and the next may answer."""
    monkeypatch.setattr(credentials, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(credentials, "_SLICE_SECONDS", 0.05)
    asked: list[bool] = [False]
    source = credentials_source(KeySettings(), chain=True, should_stop=lambda: asked[-1])
    for number in range(2):
        with pytest.raises(AccessRefused, match="answer") as caught:
            source()
        assert caught.value.credentials
        wait_until("it is ended", lambda: not any(each.name == "keys" for each in threading.enumerate()))
        assert (helper / "begun").read_text() == "x\n" * (number + 1)
    monkeypatch.setattr(credentials, "PATIENCE_SECONDS", 60.0)
    asked.append(True)
    with pytest.raises(Stopped):
        source()
    asked.append(False)
    (helper / "go").write_text(answer("FRESH", 3600.0))
    assert shown(source())[0] == "FRESH"
    assert (helper / "begun").read_text() == "x\n" * 3


def runs(pid: int) -> bool:
    """Whether a process is there; a zombie of another parent is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def begun(script: str) -> Helper:
    return Helper(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_what_it_writes_is_its_answer() -> None:
    """Both streams, and its exit code."""
    helper = begun("echo keys; echo why >&2; exit 3")
    assert helper.communicate() == (b"keys\n", b"why\n")
    assert helper.returncode == 3


@pytest.mark.parametrize("first", ["wait", "exit 0", "trap '' TERM; wait", "exec >&- 2>&-; wait"])
def test_one_that_hangs_ends_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Also where the first process has ended and what it left behind holds the pipe."""
    monkeypatch.setattr(credentials, "PATIENCE_SECONDS", 0.3)
    helper = begun(f"sleep 1000 & echo $! > {tmp_path}/child; {first}")
    with pytest.raises(TimeoutError):
        helper.communicate()
    assert not Path(f"/proc/{helper._process.pid}").exists()
    child = int((tmp_path / "child").read_text())
    wait_until("it has ended, too", lambda: not runs(child))


@pytest.mark.parametrize("stream", [1, 2])
def test_one_that_writes_without_end_is_ended_before_it_fills_the_memory(stream: int) -> None:
    """Its keys are a few lines."""
    helper = begun(f"exec yes >&{stream}")
    with pytest.raises(ValueError, match="more than keys"):
        helper.communicate()
    assert not Path(f"/proc/{helper._process.pid}").exists()


def test_one_that_still_runs_ends_with_us() -> None:
    """No thread waits for it any more."""
    helper = begun("sleep 1000")
    Helper.end_all()
    assert not runs(helper._process.pid)
    assert helper.communicate() == (b"", b"")


@pytest.mark.parametrize(("lives_seconds", "waits"), [(800.0, False), (300.0, True)])
def test_keys_are_used_while_a_helper_renews_them(helper: Path, lives_seconds: float, waits: bool) -> None:
    """As long as they hold for ten minutes."""
    (helper / "go").write_text(answer("OLD", lives_seconds))
    source = credentials_source(KeySettings(), chain=True)
    assert shown(source())[0] == "OLD"
    (helper / "go").rename(helper / "gone")
    (helper / "fresh").write_text(answer("NEW", 3600.0))
    if waits:
        threading.Timer(0.2, (helper / "fresh").rename, [helper / "go"]).start()
        assert shown(source())[0] == "NEW"
    else:
        assert shown(source())[0] == "OLD"
        (helper / "fresh").rename(helper / "go")
        wait_until("they are renewed", lambda: shown(source())[0] == "NEW")


def test_without_botocore_the_chain_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(AccessRefused) as caught:
        credentials_source(KeySettings(), chain=True)()
    assert "pip install botocore" in str(caught.value)


def test_botocore_is_imported_only_when_it_is_used() -> None:
    """A daemon with static keys does not carry it."""
    program = (
        "import sys; from syncd.storage.opening import open_store; "
        "from syncd.storage.http.credentials import credentials_source; "
        "from syncd.storage.settings import KeySettings; "
        "credentials_source(KeySettings('a', 'b'), chain=True)(); "
        "credentials_source(KeySettings(), chain=True); "
        "sys.exit('botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


# ---- hidden from the log ----------------------------------------------------------------------------------


class Ways:
    """The ways by which secrets come into the process. Each returns those that it brought."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.monkeypatch = monkeypatch
        self.file = place / "key"
        self.file.write_text(f"{self.fresh()}\n")
        self.keys = KeySettings("AKID", secret_key_file=str(self.file))

    def fresh(self) -> str:
        """A secret as nobody else has it, with what is spelt differently in URLs and JSON."""
        return f'{uuid4().hex}/+"='

    def given(self) -> set[str]:
        secret, token = self.fresh(), uuid4().hex
        credentials_source(KeySettings("AKID", secret, token), chain=True)()
        return {secret, token}

    def file_that_was_silent(self) -> set[str]:
        """Its file system answers only after the start."""
        self.monkeypatch.setattr(credentials, "_LOOK_SECONDS", 0.0)
        why = ["does not answer"]
        source = credentials_source(self.keys, chain=True, silence=lambda path: why[0])
        with pytest.raises(AccessRefused):
            source()
        why[0] = ""
        return {source().secret_access_key}

    def file_that_was_renewed(self) -> set[str]:
        source = credentials_source(self.keys, chain=True)
        first = source().secret_access_key
        self.file.write_text(self.fresh() + "more\n")
        return {first, source().secret_access_key}

    def token_file(self) -> set[str]:
        (self.place / "token").write_text(uuid4().hex)
        keys = KeySettings("A", secret_key_file=str(self.file), session_token_file=str(self.place / "token"))
        found = credentials_source(keys, chain=True)()
        return {found.secret_access_key, found.session_token}

    def environment(self) -> set[str]:
        secrets = {"AWS_SECRET_ACCESS_KEY": self.fresh(), "AWS_SESSION_TOKEN": uuid4().hex}
        for name, value in {"AWS_ACCESS_KEY_ID": "AKID", **secrets}.items():
            self.monkeypatch.setenv(name, value)
        credentials_source(KeySettings(), chain=True)()
        return set(secrets.values())

    def shared_file(self) -> set[str]:
        secret = self.fresh()
        text = f"[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = {secret}\n"
        (self.place / "credentials").write_text(text)
        credentials_source(KeySettings(), chain=True)()
        return {secret}

    def program(self) -> set[str]:
        """``credential_process``, asked again after the store refused what it gave first."""
        answers, brought = self.place / "answer", set()
        (self.place / "config").write_text(f"[default]\ncredential_process = cat {answers}\n")
        source = credentials_source(KeySettings(), chain=True)
        for _ in range(2):
            secret, token = self.fresh(), uuid4().hex
            given = {"AccessKeyId": "A", "SecretAccessKey": secret, "SessionToken": token}
            answers.write_text(json.dumps({"Version": 1, **given}))
            assert source().secret_access_key == secret
            source.forget()
            brought |= {secret, token}
        return brought

    def proxy(self) -> set[str]:
        secret = uuid4().hex
        Proxies(HttpSettings("http://h", proxy=f"http://user:{secret}%2B@proxy:3128"))
        return {f"{secret}%2B", f"{secret}+", b64encode(f"user:{secret}+".encode()).decode()}

    def proxy_of_the_environment(self) -> set[str]:
        secret = uuid4().hex
        self.monkeypatch.setenv("HTTP_PROXY", f"http://user:{secret}@proxy:3128")
        assert Proxies(HttpSettings("http://store", trust_environment=True)).of("store")
        return {secret}

    def token_of_the_page(self) -> set[str]:
        token = uuid4().hex
        (self.place / "token").write_text(token)
        (self.place / "token").chmod(0o600)
        text = "http: {address: 127.0.0.1:1, token_file: token}\nstores: {s: {type: dir, path: st}}\n"
        (self.place / "c.yaml").write_text(text + "sources: [{name: n, path: src, store: s, prefix: n/}]\n")
        assert load.load(str(self.place / "c.yaml"), {}, with_token=True).http.token == token
        return {token}


@pytest.mark.parametrize("way", [name for name in vars(Ways) if "__" not in name and name != "fresh"])
@pytest.mark.usefixtures("empty_chain")
def test_a_secret_is_hidden_whichever_way_it_comes(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it is read, in each spelling that lines give it."""
    for secret in getattr(Ways(tmp_path, monkeypatch), way)():
        for line in (
            secret,
            quote(secret),
            quote(secret, safe=""),
            json.dumps({"key": secret}),
            repr([secret]),
        ):
            assert secret[:12] not in hidden.mask(f"it is {line}!")


def test_keys_come_into_being_where_they_are_hidden() -> None:
    """Nothing else in the product makes the keys of an account."""
    package = Path(credentials.__file__).parents[2]
    makes = [path.name for path in package.rglob("*.py") if "return Credentials(" in path.read_text()]
    assert makes == ["credentials.py"]


def test_secrets_that_have_long_been_renewed_are_let_go() -> None:
    """What is remembered of them has a bound, however long the process lives."""
    hides = Hidden()
    for number in range(2 * MOST_HIDDEN):
        hides.add(f"secret-{number:04}")
    assert hides.mask("secret-0000 secret-0199") == f"secret-0000 {MASK}"
    assert len(hides._values) == MOST_HIDDEN


def test_secrets_are_not_shown(files: KeySettings) -> None:
    """Neither by the settings nor by the source nor by what it gives."""
    source = credentials_source(KeySettings("AKIDX", "s3cr3t", "t0k3n"), chain=False)
    text = repr(source) + repr(source()) + str(source()) + repr(KeySettings("AKIDX", "s3cr3t", "t0k3n"))
    assert [word for word in ("AKIDX", "s3cr3t", "t0k3n") if word in text] == []

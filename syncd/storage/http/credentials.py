"""Where an account's keys come from. Read for every request, so that rotated keys need no restart.

Three sources: keys from the configuration; files (systemd credentials, a mounted secret), read again when
they change; the standard AWS chain. This module reads the chain's first link, the environment; botocore,
imported only when used, reads the others (shared files, web identity, container, instance).
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import re
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from msgspec import Struct, field

from syncd.core.errors import AccessRefused, Stopped
from syncd.storage.http.messages import Credentials
from syncd.storage.settings import KeySettings

RELOAD_SECONDS = 300.0
"""After this long, look up keys again that botocore does not renew itself (shared files)."""
PATIENCE_SECONDS = 60.0
"""How long a request waits for a helper program or a service of the chain."""
_HOLD_SECONDS = 600.0  # keys valid for longer are used while new ones are fetched, as botocore does
_LOOK_SECONDS = 5.0
"""How often we check whether a key file's file system answers."""
_SLICE_SECONDS = 0.5
_MAX_FILE_BYTES = 64 << 10
MASK = "[secret]"
_SHORTEST = 6
"""Do not hide shorter values: they occur in ordinary text."""
MOST_HIDDEN = 100
"""Secrets of a process. Keys renewed every hour have long expired by then."""


class Hidden:
    """The secrets that no line may show, in each spelling of text, JSON and URLs.

    Code that takes in a secret adds it here before using it. For any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, set[str]] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, *values: str) -> None:
        """Have `mask` hide these values, and up to `MOST_HIDDEN` that were added before."""
        fresh = [value for value in values if len(value) >= _SHORTEST and value not in self._values]
        if not fresh:
            return
        with self._lock:
            self._values |= {value: _spellings(value) for value in fresh}
            while len(self._values) > MOST_HIDDEN:
                del self._values[next(iter(self._values))]
            spellings = set().union(*self._values.values())
            self._pattern = re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))))

    def mask(self, text: str) -> str:
        """Return the text with `MASK` for each secret."""
        pattern = self._pattern
        return pattern.sub(MASK, text) if pattern else text


def _spellings(value: str) -> set[str]:
    return {value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}


hidden = Hidden()
"""The secrets of this process."""


class Keys(Protocol):
    """A source of keys, which may keep what it found for a while."""

    def __call__(self) -> Credentials:
        """Return the current keys. Raises AccessRefused, Stopped."""

    def forget(self) -> None:
        """Look for newer keys at the next call: the store refused these."""


def credentials_source(
    keys: KeySettings,
    *,
    chain: bool,
    should_stop: Callable[[], bool] = lambda: False,
    silence: Callable[[str], str] = lambda path: "",
) -> Keys:
    """Return the source that the settings name.

    With `chain`, empty settings mean the standard AWS chain. A wait for the chain calls `should_stop`.
    `silence` returns why a path must not be accessed; empty: it may be. The source raises AccessRefused,
    naming the file or the missing setting, never the key.
    """
    identifier = _Value(keys.access_key_id, keys.access_key_file, "access_key_file", silence)
    secret = _Value(keys.secret_access_key, keys.secret_key_file, "secret_key_file", silence)
    token = _Value(keys.session_token, keys.session_token_file, "session_token_file", silence)
    if not identifier.given and not secret.given:
        return _Chain(should_stop) if chain else _Nothing()
    return _Given(identifier, secret, token)


class _Nothing:
    """No keys and no chain."""

    def __call__(self) -> Credentials:
        raise AccessRefused(
            "there are no keys for this store",
            hint="set access_key_id and secret_access_key, or the key files",
        )

    def forget(self) -> None:
        """Do nothing."""


class _Seen(Struct, frozen=True):
    """A file as read: its text, and what identifies its version."""

    mark: tuple[int, int, int, int]
    text: str


class _Value:
    """One setting: given, or the content of a file without surrounding white space."""

    def __init__(self, text: str, path: str, setting: str, silence: Callable[[str], str]) -> None:
        self.given = bool(text or path)
        self.may_change = bool(path) and not text
        self._text = text
        self._path = path
        self._setting = setting
        self._silence = silence
        self._why_silent = ""
        self._asks_at = -math.inf
        self._seen: _Seen | None = None

    def read(self) -> str:
        """Return the current value.

        Raises AccessRefused if its file is missing, unreadable or empty. While the file system does not
        answer, return the last value.
        """
        if self._text or not self._path:
            return self._text
        seen = self._look()
        if not seen.text:
            raise self._refused("is empty")
        if len(seen.text.splitlines()) > 1:
            raise self._refused("has more than one line")
        if not seen.text.isprintable():
            raise self._refused("holds characters that cannot be seen")
        return seen.text

    def _look(self) -> _Seen:
        """Return the file as it is. Raises AccessRefused if it is unreadable."""
        if time.monotonic() >= self._asks_at:
            self._why_silent = self._silence(self._path)
            self._asks_at = time.monotonic() + _LOOK_SECONDS
        if self._why_silent:
            if self._seen is None:
                raise AccessRefused(f"the key file {self._why_silent}", hint=f"check {self._setting}")
            return self._seen
        try:
            stat = os.stat(self._path)
            mark = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._seen is None or self._seen.mark != mark:
                with open(self._path, encoding="utf-8-sig", opener=_open_at_once) as file:
                    self._seen = _Seen(mark, file.read(_MAX_FILE_BYTES).strip())
            return self._seen
        except OSError as error:
            raise self._refused(f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self._refused("is not text") from None

    def _refused(self, why: str) -> AccessRefused:
        return AccessRefused(f"the key file {self._path} {why}", hint=f"check {self._setting}")


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


class _Given:
    """Keys from the settings or from files, in any mixture."""

    def __init__(self, identifier: _Value, secret: _Value, token: _Value) -> None:
        self._values = identifier, secret, token
        fixed = identifier.given and secret.given and not any(value.may_change for value in self._values)
        self._fixed = self._read() if fixed else None

    def __call__(self) -> Credentials:
        return self._fixed or self._read()

    def forget(self) -> None:
        """Do nothing: every request checks the files."""

    def _read(self) -> Credentials:
        identifier, secret, token = (value.read() for value in self._values)
        if not identifier or not secret:
            missing = "access_key_id" if not identifier else "secret_access_key"
            raise AccessRefused(
                f"there is no {missing} for this store", hint="set access_key_id and secret_access_key"
            )
        return _sound(identifier, secret, token)


class _Chain:
    """The standard AWS chain. botocore renews keys that expire. Keys that it reads only once are read again
    after a while, and as soon as the store refuses them.

    Helper programs and services may hang, so they run in a thread of their own, one at a time. Until they
    answer, old keys are used while valid.
    """

    def __init__(
        self, should_stop: Callable[[], bool] = lambda: False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._should_stop = should_stop
        self._clock = clock
        self._lock = threading.Lock()
        self._found: Any = None
        self._keys: Credentials | None = None
        self._found_at = -math.inf
        self._is_refused = False
        self._refusal_heeded_at = -math.inf
        self._asking: _Asking | None = None

    def __call__(self) -> Credentials:
        given = _from_environment()
        if given is not None:
            return given
        with self._lock:
            if self._keys is None or self._is_old():
                asking = self._asking or self._ask(None)
            elif not self._expires_within():
                return self._keys
            else:
                asking = self._asking or self._ask(self._found)
                if not self._expires_within(_HOLD_SECONDS):
                    return self._keys
        return self._wait(asking)

    def forget(self) -> None:
        """Note the refusal even if it is too early to look the keys up again."""
        with self._lock:
            self._is_refused = True

    def _is_old(self) -> bool:
        """Return whether to look the keys up; after a refusal once a second, since all workers report it."""
        now = self._clock()
        renews_itself = hasattr(self._found, "refresh_needed")
        return (self._is_refused and now - self._refusal_heeded_at > 1.0) or (
            not renews_itself and now - self._found_at > RELOAD_SECONDS
        )

    def _expires_within(self, *seconds: float) -> bool:
        """Return whether the keys expire, by default within a quarter of an hour."""
        return hasattr(self._found, "refresh_needed") and bool(self._found.refresh_needed(*seconds))

    def _ask(self, found: Any) -> _Asking:
        """Renew the keys of `found`, or look up new ones, in another thread."""
        self._asking = asking = _Asking(self._clock())
        if self._is_refused:
            self._refusal_heeded_at = asking.began

        def ask() -> None:
            try:
                fresh = found if found is not None else _look_up()
                keys = _frozen(fresh)
            except BaseException as error:  # noqa: BLE001  raised where the keys are wanted
                asking.error = error
            with self._lock:
                self._asking = None
                if asking.error is None:
                    self._found, self._keys, self._found_at = fresh, keys, self._clock()
                    self._is_refused = False
            asking.is_over.set()

        threading.Thread(target=ask, name="keys", daemon=True).start()
        return asking

    def _wait(self, asking: _Asking) -> Credentials:
        """Raises AccessRefused, Stopped."""
        while not asking.is_over.wait(_SLICE_SECONDS):
            if self._should_stop():
                raise Stopped
            seconds = self._clock() - asking.began
            if seconds >= PATIENCE_SECONDS:
                raise _chain_refused(TimeoutError(f"there has been no answer for {seconds:.0f} s"))
        if asking.error is not None:
            raise asking.error
        assert self._keys is not None
        return self._keys


class _Asking(Struct):
    """A query of the chain."""

    began: float
    is_over: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Helper:
    """A program that the chain runs for keys (``credential_process``), with the interface of
    `subprocess.Popen`. botocore waits without limit, and knows only the first process.

    Here the program leads its own process group: a shell ends together with its children, and is waited for,
    so no zombie stays.
    """

    _running: ClassVar[set[Helper]] = set()

    def __init__(self, command: list[str], stdout: int, stderr: int) -> None:
        import subprocess  # late: few configurations need it

        self._process = subprocess.Popen(  # noqa: S603  what the profile names
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        self._running.add(self)

    @property
    def returncode(self) -> int | None:
        """As for any process."""
        return self._process.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """Wait for the end; return what the program wrote. Raises TimeoutError if it was too slow and was
        ended, ValueError if it wrote more than keys.
        """
        from subprocess import TimeoutExpired

        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._process:
            try:
                wrote = _read([self._process.stdout, self._process.stderr], deadline)
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except (TimeoutError, TimeoutExpired):
                self.end()
                raise TimeoutError("its program does not answer, and was ended") from None
            except ValueError:
                self.end()
                raise
            finally:
                self._running.discard(self)
        return wrote[0], wrote[1]

    def end(self) -> None:
        """End the whole group, and wait for its first process."""
        with suppress(ProcessLookupError):
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except PermissionError:  # it runs as another user (sudo): only that user can end it
                return
        self._process.wait()

    @classmethod
    def end_all(cls) -> None:
        """End the programs that still run, without waiting for an answer."""
        for helper in list(cls._running):
            helper.end()


atexit.register(Helper.end_all)


def _read(pipes: Sequence[Any], deadline: float) -> list[bytes]:
    """Read each pipe until its end. Raises TimeoutError, and ValueError if it is too much."""
    wrote = [b"" for _ in pipes]
    with selectors.DefaultSelector() as open_ones:
        for number, pipe in enumerate(pipes):
            open_ones.register(pipe, selectors.EVENT_READ, number)
        while open_ones.get_map():
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            for key, _ in open_ones.select(left):
                piece = os.read(key.fd, _MAX_FILE_BYTES)
                wrote[key.data] += piece
                if not piece:
                    open_ones.unregister(key.fileobj)
                if len(wrote[key.data]) > _MAX_FILE_BYTES:
                    raise ValueError("its program writes more than keys, and was ended")
    return wrote


def _from_environment() -> Credentials | None:
    """Return the keys in the environment; None: there are none. Raises AccessRefused."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    identifier, secret, token = (os.environ.get(name, "").strip() for name in names)
    if identifier and not secret:
        raise AccessRefused(
            "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", hint="set both, or neither"
        )
    return _sound(identifier, secret, token) if identifier and secret else None


def _sound(identifier: str, secret: str, token: str) -> Credentials:
    """Hide and return the keys. Raises AccessRefused if no header can hold them or no server gives them."""
    hidden.add(secret, token)
    for name, value in (("access key", identifier), ("session token", token)):
        if not all("!" <= char <= "~" for char in value):
            raise AccessRefused(
                f"the {name} contains a blank or another character that keys do not have",
                hint="copy it again from the provider's console",
            )
    return Credentials(identifier, secret, token)


def _look_up() -> Any:
    """Return botocore's credentials object. Raises AccessRefused."""
    try:
        import botocore.credentials  # type: ignore[import-untyped]
        import botocore.session  # type: ignore[import-untyped]
    except ImportError:
        raise AccessRefused(
            "the standard AWS credential chain needs a package that is not installed",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or keys here, or pip install botocore",
        ) from None
    known = botocore.credentials.ProcessProvider  # botocore finds it by name
    if not isinstance(known, partial):
        botocore.credentials.ProcessProvider = partial(known, popen=Helper)
    # It also logs a traceback for each error that it raises.
    logging.getLogger("botocore.credentials").setLevel(logging.CRITICAL)
    try:
        found = botocore.session.Session().get_credentials()
    except Exception as error:  # not only botocore's: helper programs fail in their own ways
        raise _chain_refused(error) from error
    if found is None:
        raise AccessRefused(
            "the standard AWS credential chain has no keys",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or keys for this store",
        )
    return found


def _frozen(found: Any) -> Credentials:
    """Return the current keys; renewing them may use the network. Raises AccessRefused."""
    try:
        now = found.get_frozen_credentials()
    except Exception as error:  # as in `_look_up`: renewing runs helpers and calls services
        raise _chain_refused(error) from error
    if not now.access_key or not now.secret_key:
        raise AccessRefused(
            "the standard AWS credential chain has only one of the two keys",
            hint="set both in the profile or service that it names",
        )
    return _sound(now.access_key, now.secret_key, now.token or "")


def _chain_refused(error: Exception) -> AccessRefused:
    why = str(error) or type(error).__name__
    return AccessRefused(
        f"the standard AWS credential chain failed: {why}",
        hint="check AWS_PROFILE, its files, and the program or service that they name",
    )

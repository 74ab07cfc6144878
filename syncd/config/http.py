"""The keys of `http`: where the daemon answers browsers and monitoring, and its token."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from typing import Annotated

from msgspec import field

from syncd.config import values as kinds
from syncd.config.document import Document
from syncd.config.units import Refused
from syncd.config.values import Entry, Parsed
from syncd.sources import places

_EXAMPLE = "an IP address and a port, such as `127.0.0.1:8737` or `[::1]:8737`"
_TOKEN = re.compile(r"[!-~]{16,256}")
_IN_FILE = "a file with one line of 16 to 256 letters, digits or signs, as `openssl rand -hex 32` makes it"


def _listens_on(value: object, _: kinds.Place) -> tuple[str, int]:
    """Parse host and port."""
    host, _colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        found = ipaddress.ip_address(host[1:-1] if is_bracketed else host)
    except ValueError:
        raise Refused(_EXAMPLE) from None
    if (found.version == 6) != is_bracketed or not re.fullmatch("[0-9]{1,5}", port):
        raise Refused(_EXAMPLE)
    if not 0 < int(port) < 65_536:
        raise Refused("a port between 1 and 65535")
    return str(found), int(port)


HostName = Annotated[
    kinds.Text,
    kinds.matching(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", "a host name in small letters, without a port"),
]


class HttpAddressEntry(Entry, frozen=True):
    """The address on which the daemon answers."""

    required = ("address",)
    address: Annotated[tuple[str, int], Parsed(_listens_on), _EXAMPLE] = ("", 0)
    token_file: kinds.FilePath = ""
    names: list[HostName] = field(default_factory=list)

    @property
    def is_local(self) -> bool:
        """Return whether only this machine reaches it."""
        return not self.address[0] or ipaddress.ip_address(self.address[0]).is_loopback

    def check(self, document: Document) -> None:
        """Check that other machines need a token."""
        if not self.is_local and ("http", "token_file") not in document.marks:
            expected = "the file of a token, because other machines reach the address"
            document.report(("http", "token_file"), found="nothing", expected=expected)

    def token(self, document: Document) -> str:
        """Return the token in `token_file`; empty: there is none, or (with a problem) it is unusable."""
        path = ("http", "token_file")
        if not self.token_file:
            return ""
        from syncd.storage.http.credentials import hidden  # late: few have a token

        if silence := places.silence(self.token_file):
            document.report(path, found=silence, expected="a file that can be read")
            return ""
        try:
            # Not blocking, since it may be a fifo, which is not accepted.
            with open(os.open(self.token_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(1000).decode("ascii", "replace").strip() if stat.S_ISREG(mode) else ""
        except OSError as error:
            found = f"{document.found(path)} ({error.strerror or 'it cannot be opened'})"
            document.report(path, found=found, expected="a file that can be read")
            return ""
        hidden.add(text)
        if not _TOKEN.fullmatch(text):
            document.report(path, found=f"{document.found(path)}, which holds none", expected=_IN_FILE)
            return ""
        if mode & stat.S_IROTH:
            shown = f"mode {stat.S_IMODE(mode):04o}"
            document.warn(path, f"can be read by every user of this machine ({shown}): run `chmod 600` on it")
        return text

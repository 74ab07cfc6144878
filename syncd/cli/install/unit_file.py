"""What stands in a unit file. Pure: text in, text out (systemd.syntax(7), systemd.exec(5))."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PROGRAM = "/usr/bin/syncd"
"""What the originals start."""
CONFIG = "%E/syncd/config.yaml"
"""What the originals give it: ``%E`` is the manager's own configuration directory."""
CREDENTIAL = re.compile(r"\$\{CREDENTIALS_DIRECTORY\}/([A-Za-z0-9._-]+)")
"""How a configuration names a key that the manager hands over."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a configuration asks of the unit, beyond what every unit has."""

    writable: tuple[str, ...] = ()
    private_tmp: bool = True
    credentials: tuple[tuple[str, str], ...] = ()
    """Name of a key, and the file that the administrator keeps it in; ``.cred`` ends an encrypted one."""


def unit_text(template: str, program: Sequence[str], config_file: str | None) -> str:
    """The unit that runs `program` instead of ``/usr/bin/syncd``, with `config_file` unless that is None."""
    lines = []
    command = " ".join(quoted(word).replace("$", "$$") for word in program)
    argument = CONFIG if config_file is None else quoted(config_file).replace("$", "$$")
    for line in template.splitlines():
        if line.startswith(("ExecStart=", "ExecReload=")):
            lines.append(line.replace(PROGRAM, command).replace(CONFIG, argument))
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """`text` as one word of a unit file.

    Raises:
        ValueError: unit files cannot hold it (control characters, bytes that are not UTF-8).
    """
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise ValueError("control characters, or bytes that are not UTF-8")
    escaped = text.replace("%", "%%")
    if re.search(r"[\s\"'\\;]", escaped):
        return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return escaped


def drop_in(wants: Wants, version: int) -> str | None:
    """What goes beside the unit for `wants` under systemd `version`; None when there is nothing to say."""
    lines = []
    if version >= 254:
        lines += ["# From 5 seconds to 5 minutes, in six steps.", "RestartSteps=6", "RestartMaxDelaySec=5min"]
    if not wants.private_tmp:
        lines += ["# A configured path lies where a private /tmp would hide it.", "PrivateTmp=no"]
    if wants.writable:
        lines += ["# Stores that are directories, and a state directory of one's own."]
        lines += [f"ReadWritePaths=-{quoted(path)}" for path in wants.writable]
    for name, source in wants.credentials:
        kind = "LoadCredentialEncrypted" if source.endswith(".cred") else "LoadCredential"
        lines.append(f"{kind}={name}:{source.replace('%', '%%')}")
    return "\n".join(["[Service]", *lines, ""]) if lines else None

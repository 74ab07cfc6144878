"""`syncd install-service`: writes the unit files of this installation for the service manager.

The files under ``systemd/`` (in the package: ``unit-files``) are the only originals. The command writes
copies that start this installation, and a drop-in with what the configuration needs in the sandbox. Run
again, it changes nothing or updates the copies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources

import click
from msgspec import Struct

from syncd.cli import common
from syncd.config import load as config
from syncd.core.errors import ConfigError
from syncd.storage.settings import DirSettings

Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs a program to its end; exit code 127: there is no such program. Never raises."""

MARK = (
    "# Written by `syncd install-service`, and again by the next one: your own settings go into a drop-in.\n"
)
_DROP_IN = "10-install.conf"
_PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108  (named, not used: what PrivateTmp= hides)
PROGRAM = "/usr/bin/syncd"
"""The originals start this."""
CONFIG = "%E/syncd/config.yaml"
"""The originals' argument: ``%E`` is the manager's configuration directory."""
CREDENTIAL = re.compile(r"\$\{CREDENTIALS_DIRECTORY\}/([A-Za-z0-9._-]+)")
"""How a configuration names a key that the manager passes."""
STARTER = """\
# syncd: which folders go where. Change the paths and the store, try it with `syncd check`, and run
# `syncd install-service` again. config.example.yaml explains every key.
state_dir: {state}

stores:
  backup: {{type: dir, path: {backup}}}     # or type: s3, or bos

sources:
  - name: files
    path: {files}
    store: backup
    prefix: files/
    exclude_temporary: true       # leave out what editors, browsers and copiers name as temporary
    attributes: posix             # mode, owner and extended attributes come back
    empty_directories: record     # and so do empty folders
"""
"""The configuration if there is none. It sends nothing while its folders do not exist."""
_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@click.command()
@click.option("--user", is_flag=True, help="Install for the calling user, not for the system.")
@click.option("--print", "print_only", is_flag=True, help="Print the units instead of writing them.")
@common.config_option
def command(user: bool, print_only: bool, config_path: str | None) -> None:
    """Write the systemd units for this installation.

    The service uses the configuration file that -c names, else the usual one. If there is none, this command
    writes an example.
    """
    sys.exit(install_service(user=user, print_only=print_only, config_path=config_path))


class Place(Struct, frozen=True):
    """Where one kind of manager keeps files, as absolute paths."""

    user: bool
    units: str
    vendor_units: str
    config: str
    state: str
    home: str
    """Where users keep their files."""
    credentials: str
    """The service's ``$CREDENTIALS_DIRECTORY``."""
    sysusers: str | None


class Wants(Struct, frozen=True):
    """What a configuration needs in the unit besides the usual."""

    writable: tuple[str, ...] = ()
    private_tmp: bool = True
    credentials: tuple[tuple[str, str], ...] = ()
    """The name of a key, and the administrator's file of it; an encrypted one ends in ``.cred``."""


def install_service(
    *,
    user: bool = False,
    config_path: str | None = None,
    print_only: bool = False,
    root: str = "/",
    environ: Mapping[str, str] = os.environ,
    runner: Runner | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Write the units for the system, or for the calling `user`, and a configuration if there is none. Return
    the exit code of the command.

    `config_path` goes into the unit; None keeps the usual place. `print_only` prints the files, and writes
    none. `root` goes before every path written (for images); the running manager reloads only if it is ``/``.
    A file without our mark is never replaced.
    """
    run = runner or _run
    place = _place(user, environ)
    config_file = os.path.abspath(config_path) if config_path else place.config
    wants, notes = _wants(place, config_file, environ)
    files = _files(place, config_path and config_file, drop_in(wants, _version(run)))
    if print_only:
        for path, text in files.items():
            if text is not None:
                say(f"# ==> {path} <==\n{text}")
        return 0
    try:
        if not os.path.lexists(config_file):
            say(f"{_begin(root.rstrip('/') + config_file, place)}: {config_file}")
        for path, text in files.items():
            say(f"{_write(root.rstrip('/') + path, text)}: {path}")
    except FileExistsError as error:
        say(f"{error.filename} was not written by install-service; move it away and try again")
        return 1
    except OSError as error:
        say(f"cannot write {error.filename}: {error.strerror}; be root, or use --user or --print")
        return 1
    notes += [] if user else _reach_notes(_program()[0])
    code = _tell_manager(place, run, say) if root == "/" else 0
    for note in (*notes, *_next_steps(place, config_file)):
        say(note)
    return code


def _credential_file(config_file: str, name: str) -> str:
    """Return the administrator's file of a key: beside the configuration, encrypted (``.cred``) or not."""
    plain = os.path.join(os.path.dirname(config_file), "credentials", name)
    return f"{plain}.cred" if os.path.exists(f"{plain}.cred") else plain


def _files(place: Place, config_file: str | None, extra: str | None) -> dict[str, str | None]:
    """Return the files of the installation, path to text; None: the file should not exist."""
    names = ["user/syncd.service"] if place.user else ["syncd.service", "syncd@.service"]
    files: dict[str, str | None] = {}
    for name in names:
        template = _original(name)
        text = unit_text(template, _program(), config_file)
        base = os.path.basename(name)
        # If a package of the distribution has the same unit, the package owns it.
        shipped = _read(os.path.join(place.vendor_units, base)) == text
        files[os.path.join(place.units, base)] = None if shipped else MARK + text
    files[os.path.join(place.units, "syncd.service.d", _DROP_IN)] = extra and MARK + extra
    if place.sysusers and not os.path.exists("/usr/lib/sysusers.d/syncd.conf"):
        files[place.sysusers] = MARK + _original("sysusers.conf")
    return files


def _original(name: str) -> str:
    return resources.files("syncd").joinpath("unit-files", *name.split("/")).read_text("utf-8")


def _program() -> tuple[str, ...]:
    """Return how to start this installation: its script, by its name on the search path if possible."""
    script = os.path.join(os.path.dirname(sys.executable), "syncd")
    if not os.access(script, os.X_OK):
        return (sys.executable, "-m", "syncd")
    found = shutil.which("syncd")
    if found and os.path.realpath(found) == os.path.realpath(script):
        return (os.path.abspath(found),)
    return (script,)


# ---- what the configuration needs -------------------------------------------------------------------------


def _place(user: bool, environ: Mapping[str, str]) -> Place:
    if not user:
        return Place(
            user=False,
            units="/etc/systemd/system",
            vendor_units="/usr/lib/systemd/system",
            config="/etc/syncd/config.yaml",
            state="/var/lib/syncd",
            home="/srv",
            credentials="/run/credentials/syncd.service",
            sysusers="/etc/sysusers.d/syncd.conf",
        )
    home = environ.get("HOME") or os.path.expanduser("~")
    configs = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    states = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    return Place(
        user=True,
        units=os.path.join(configs, "systemd", "user"),
        vendor_units="/usr/lib/systemd/user",
        config=os.path.join(configs, "syncd", "config.yaml"),
        state=os.path.join(states, "syncd"),
        home=home,
        credentials=f"/run/user/{os.getuid()}/credentials/syncd.service",
        sysusers=None,
    )


def _wants(place: Place, config_file: str, environ: Mapping[str, str]) -> tuple[Wants, list[str]]:
    """Return what the configuration needs in the unit, and notes for the administrator."""
    text = _read(config_file)
    if text is None:
        return Wants(), [f"{config_file} is an example: change it, then run install-service again."]
    inside = {**environ, "CREDENTIALS_DIRECTORY": place.credentials}
    if not place.user:
        inside["STATE_DIRECTORY"] = place.state
    try:
        settings = config.load(config_file, inside, with_secrets=False)
    except ConfigError as error:
        problems = [f"  {problem}" for problem in error.problems]
        return Wants(), ["The configuration has mistakes, so the unit does not follow it yet:", *problems]
    stores = [store.path for store in settings.stores.values() if isinstance(store, DirSettings)]
    names = dict.fromkeys(CREDENTIAL.findall(text))
    credentials = tuple((name, _credential_file(config_file, name)) for name in names)
    notes = [
        f"Put {name} into {file} (mode 0600); without it the unit stops with 243/CREDENTIALS."
        for name, file in credentials
        if not os.path.exists(file)
    ]
    if place.user:  # a user's unit has no sandbox
        return Wants(credentials=credentials), notes
    writable = [*stores, *([settings.state_dir] if settings.state_dir != place.state else [])]
    notes += [note for note in map(_writable_note, writable) if note]
    roots = [source.root for source in settings.sources]
    return Wants(
        writable=tuple(dict.fromkeys(path for path in writable if not _UNQUOTABLE.search(path))),
        private_tmp=not any(_is_below(path, _PRIVATE) for path in (*roots, *writable)),
        credentials=credentials,
    ), notes


def _writable_note(path: str) -> str | None:
    if _UNQUOTABLE.search(path):
        return f"{path!r} cannot be written in a unit file, so the service cannot write there: rename it."
    if not os.path.isdir(path):
        return f"Make {path} and give it to the service: install -d -o syncd -g syncd -m 0750 {path!r}"
    return None


def _reach_notes(program: str) -> list[str]:
    """Return a note if the account of the service cannot reach the program."""
    path = os.path.realpath(program)
    while (path := os.path.dirname(path)) != "/":
        if not os.stat(path).st_mode & 0o001:
            return [f"The account syncd cannot enter {path}, where this program is: install it elsewhere."]
    return []


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


# ---- what stands in a unit file: systemd.syntax(7), systemd.exec(5) ----------------------------------------


def unit_text(template: str, program: Sequence[str], config_file: str | None) -> str:
    """Return the unit that runs `program` instead of ``/usr/bin/syncd``, with `config_file` unless None."""
    command = " ".join(quoted(word).replace("$", "$$") for word in program)
    argument = CONFIG if config_file is None else quoted(config_file).replace("$", "$$")
    return "".join(
        line.replace(PROGRAM, command).replace(CONFIG, argument)
        if line.startswith(("ExecStart=", "ExecReload="))
        else line
        for line in template.splitlines(keepends=True)
    )


def quoted(text: str) -> str:
    """Return `text` as one word of a unit file.

    Raises:
        ValueError: unit files cannot hold it (control characters, bytes that are not UTF-8).
    """
    if _UNQUOTABLE.search(text):
        raise ValueError("control characters, or bytes that are not UTF-8")
    escaped = text.replace("%", "%%")
    if re.search(r"[\s\"'\\;]", escaped):
        return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return escaped


def drop_in(wants: Wants, version: int) -> str | None:
    """Return the drop-in for `wants` under systemd `version`; None: it would be empty."""
    lines = []
    if version >= 254:
        lines += ["# From 5 seconds to 5 minutes, in six steps.", "RestartSteps=6", "RestartMaxDelaySec=5min"]
    if not wants.private_tmp:
        lines += ["# A configured path lies where a private /tmp would hide it.", "PrivateTmp=no"]
    if wants.writable:
        lines += ["# Stores that are directories, and a state directory in another place."]
        lines += [f"ReadWritePaths=-{quoted(path)}" for path in wants.writable]
    for name, source in wants.credentials:
        kind = "LoadCredentialEncrypted" if source.endswith(".cred") else "LoadCredential"
        lines.append(f"{kind}={name}:{source.replace('%', '%%')}")
    return "\n".join(["[Service]", *lines, ""]) if lines else None


# ---- effects ----------------------------------------------------------------------------------------------


def _begin(path: str, place: Place) -> str:
    """Write a configuration at `path` unless something is there; return what was done. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
            paths = {"state": place.state, "backup": f"{place.home}/backup", "files": f"{place.home}/files"}
            file.write(STARTER.format(**{name: _scalar(path) for name, path in paths.items()}))
            os.fchmod(file.fileno(), 0o600 if place.user else 0o644)
    except FileExistsError:
        return "left alone"
    return "written"


def _scalar(path: str) -> str:
    """Return the path as written in a configuration."""
    return json.dumps(path, ensure_ascii=False).replace("$", "$$")


def _write(path: str, text: str | None) -> str:
    """Make `path` hold `text`, None removes it; return what was done. FileExistsError: it is not ours."""
    present = _read(path)
    if present == text:
        return "unchanged" if text is not None else "not needed"
    if present is not None and not present.startswith(MARK):
        if text is None:
            return "left alone"
        raise FileExistsError(0, "", path)
    if text is None:
        os.unlink(path)
        return "removed"
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=directory, prefix=".syncd-", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    os.replace(file.name, path)
    return "updated" if present is not None else "written"


def _tell_manager(place: Place, run: Runner, say: Callable[[str], None]) -> int:
    """Make the account, and reload the manager; return 0, or 1 if the service could not start."""
    if place.sysusers and (made := run(["systemd-sysusers"])).returncode != 0:
        say(f"systemd-sysusers did not make the account syncd: {made.stderr.strip() or made.returncode}")
        return 1
    told = run(["systemctl", *(["--user"] if place.user else []), "daemon-reload"])
    if told.returncode != 0:
        say(f"systemd did not reload its units (is it running?): {told.stderr.strip() or told.returncode}")
    return 0


def _next_steps(place: Place, config_file: str) -> list[str]:
    control = "systemctl --user" if place.user else "systemctl"
    journal = "journalctl --user" if place.user else "journalctl"
    steps = [
        f"Configuration: {config_file} (after changing stores or paths run install-service again)",
        f"Start now and at every boot: {control} enable --now syncd",
        f"Look at it: {control} status syncd; {journal} -u syncd -f",
    ]
    if place.user:
        steps.append("Run it also while you are not logged in: loginctl enable-linger")
    return steps


def _version(run: Runner) -> int:
    """Return the systemd version of this machine; 0: there is none."""
    match = re.match(r"systemd (\d+)", run(["systemctl", "--version"]).stdout)
    return int(match[1]) if match else 0


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))

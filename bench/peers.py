"""How each program is asked to carry a folder or a file to a bucket, at its best.

A contestant is found on the PATH or beside the interpreter; what is not installed is left out and named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from servers import BUCKET, Server

REGION = "us-east-1"
NAMES = ("rclone", "s5cmd", "aws", "s3cmd")
_RCLONE = (
    "--config", os.devnull, "--s3-provider", "Ceph", "--s3-env-auth", "--s3-region", REGION,
)  # fmt: skip
_CRT = "[default]\ns3 =\n  preferred_transfer_client = crt\n  addressing_style = path\n"
_CLASSIC = "[default]\ns3 =\n  addressing_style = path\n"


def find(name: str) -> str | None:
    """A program on the PATH, or beside the interpreter, where pip puts them."""
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


def aws_programs() -> dict[str, str]:
    """The newest aws cli of each major version: 1 is the classic one, 2 can use the CRT."""
    found: dict[str, tuple[list[int], str]] = {}
    for path in (find("aws"), "/usr/bin/aws", "/usr/local/bin/aws"):
        if path is None or not os.access(path, os.X_OK):
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = told.partition("aws-cli/")[2].split(" ")[0].split(".")
        if version[0]:
            found[version[0]] = max(found.get(version[0], ([], "")), ([*map(int, version)], path))
    return {major: path for major, (_, path) in found.items()}


def versions() -> dict[str, str]:
    """What each program says about itself."""
    asked = {
        "rclone": ("version",), "s5cmd": ("version",), "s3cmd": ("--version",), "lsyncd": ("--version",),
    }  # fmt: skip
    told = {}
    for name, arguments in asked.items():
        path = find(name)
        if path is not None:
            done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
            told[name] = (done.stdout or done.stderr).strip().splitlines()[0]
    for major, path in aws_programs().items():
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        told[f"aws {major}"] = done.stdout.split()[0]
    return told


@dataclass(frozen=True)
class Task:
    """What is to be carried: a folder with its files, or one file."""

    path: Path
    server: Server
    prefix: str
    scratch: Path
    """For configurations and state; empty at the start of every run."""

    @property
    def is_file(self) -> bool:
        return self.path.is_file()

    @property
    def endpoint(self) -> str:
        return f"http{'s' if self.server.ca_bundle else ''}://127.0.0.1:{self.server.port}"

    def environ(self) -> dict[str, str]:
        """Ours without proxies, with the keys where the SDKs look for them."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        kept.update(
            AWS_ACCESS_KEY_ID=self.server.access_key,
            AWS_SECRET_ACCESS_KEY=self.server.secret_key,
            AWS_REGION=REGION,
            AWS_DEFAULT_REGION=REGION,
            AWS_EC2_METADATA_DISABLED="true",
        )
        if self.server.ca_bundle:
            kept["AWS_CA_BUNDLE"] = self.server.ca_bundle
        return kept


Command = tuple[list[str], Mapping[str, str]]

PROGRAM = [sys.executable, "-m", "syncd"]
BEFORE: list[str] = []
"""How another checkout is run, to be measured beside this one; mostly there is none."""

UNCHECKED = ", unchecked"
"""How the name of a contestant ends that does less work than the others, and is no measure for them.

Either it sends no digest, neither signed nor as Content-MD5 or checksum (aws cli before 2.23), so that the
server cannot check what arrived; or it brings content back and compares it with no digest.
"""


def commands(task: Task) -> Iterator[tuple[str, Command]]:
    """Name, command and environment of every contestant that is installed, syncd first."""
    yield "syncd", syncd(task)
    if not task.is_file:
        yield "syncd, concurrency 8", syncd(task, transfer="{concurrency: 8}")
    if BEFORE:
        yield "syncd before", before(task)
    yield from _s5cmd(task)
    yield from _aws(task)
    if task.server.remembers:  # these ask for what they sent, or compare what came back
        yield from _rclone(task)
        yield from _s3cmd(task)


def syncd(task: Task, command: str = "sync", port: int | None = None, transfer: str = "{}") -> Command:
    """With its defaults; over plain HTTP it signs the SHA-256 of every body."""
    config = task.scratch / "config.yaml"
    folder = task.path.parent if task.is_file else task.path
    endpoint = f"{task.endpoint.rpartition(':')[0]}:{port or task.server.port}"
    trust = f', ca_bundle: "{task.server.ca_bundle}"' if task.server.ca_bundle else ""
    config.write_text(
        f"""\
state_dir: {task.scratch}/state
transfer: {transfer}
stores:
  bench: {{type: s3, endpoint: "{endpoint}", region: {REGION},
          bucket: {BUCKET}, path_style: true,
          access_key_id: "{task.server.access_key}", secret_access_key: "{task.server.secret_key}"{trust}}}
sources:
  - {{name: bench, path: "{folder}", store: bench, prefix: "{task.prefix}", settle: 0}}
"""
    )
    config.chmod(0o600)
    return [*PROGRAM, command, "-q", "-c", str(config)], task.environ()


def restores(task: Task, target: Path) -> Iterator[tuple[str, Command]]:
    """How each brings the folder or file back that `syncd sync` has sent, into an empty folder.

    s5cmd never checks what it brought. rclone does where the object has an MD5: as its ETag, or in the
    metadata that rclone writes to an object in parts; so it also brings back a large file that it sent.
    """
    command, environ = syncd(task, "restore")
    command = [*command, "--to", str(target)]
    yield "syncd", (command, environ)
    if BEFORE:
        yield "syncd before", ([*BEFORE, *command[len(PROGRAM) :]], environ)
    if (program := find("s5cmd")) is not None:
        back = [*_s5cmd_program(task, program), f"{_target(task)}*", f"{target}/"]
        yield f"s5cmd{UNCHECKED}", (back, environ)
    if (program := find("rclone")) is not None:
        common = [program, *_RCLONE, "copy", "--s3-endpoint", task.endpoint, *_rclone_trust(task)]
        ours, many = [f":s3:{BUCKET}/{task.prefix}", str(target)], ["--transfers", "32", "--checkers", "32"]
        if task.is_file:
            own = [f":s3:{BUCKET}/{sent_by_rclone(task).prefix}", str(target)]
            yield f"rclone{UNCHECKED}", ([*common, *ours], environ)
            yield "rclone", ([*common, *own], environ)
        else:
            yield "rclone", ([*common, *ours], environ)
            yield "rclone --transfers 32", ([*common, *many, *ours], environ)


def sent_by_rclone(task: Task) -> Task:
    """The same content below a prefix of its own, where rclone has sent it."""
    return replace(task, prefix=f"rclone-{task.prefix}")


def before(task: Task) -> Command:
    """The same with the code of another checkout."""
    command, environ = syncd(task)
    return [*BEFORE, *command[len(PROGRAM) :]], environ


def install(directory: Path, other: Path | None = None) -> None:
    """Install this checkout, and `other`, as users have it, and measure that.

    Each gets an environment of its own below `directory`, compiled, which takes the libraries from here. The
    finder of an editable install costs a start a tenth of its work.
    """
    PROGRAM[:] = _installed(Path(__file__).resolve().parent.parent, directory / "installed")
    BEFORE[:] = _installed(other, directory / "installed-before") if other is not None else []


def _installed(checkout: Path, directory: Path) -> list[str]:
    venv.create(directory, clear=True, symlinks=True)
    python = str(directory / "bin" / "python")
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(checkout / "syncd", packages / "syncd", ignore=ignored)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([python, "-m", "compileall", "-q", str(packages)], env=environ, check=True)
    return [python, "-P", "-m", "syncd"]  # not the syncd of the directory in which this runs


def _rclone(task: Task) -> Iterator[tuple[str, Command]]:
    program = find("rclone")
    if program is None:
        return
    common = [
        program, *_RCLONE, "copy", str(task.path), f":s3:{BUCKET}/{task.prefix}",
        "--s3-endpoint", task.endpoint, "--s3-no-check-bucket", *_rclone_trust(task),
    ]  # fmt: skip
    if task.is_file:
        parts = ["--s3-chunk-size", "16M", "--s3-upload-concurrency", "4"]
        yield "rclone 16 MiB x4", ([*common, *parts], task.environ())
        bare = ["--s3-disable-checksum", "--s3-no-head"]
        yield "rclone, no checksum, no head", ([*common, *parts, *bare], task.environ())
        return
    yield "rclone", (common, task.environ())
    many = ["--transfers", "32", "--checkers", "32", "--s3-no-head"]
    yield "rclone --transfers 32, no head", ([*common, *many], task.environ())


def _s5cmd(task: Task) -> Iterator[tuple[str, Command]]:
    program = find("s5cmd")
    if program is None:
        return
    source = str(task.path) if task.is_file else f"{task.path}/"
    yield "s5cmd", ([*_s5cmd_program(task, program), source, _target(task)], task.environ())


def _s5cmd_program(task: Task, program: str) -> list[str]:
    return [program, "--endpoint-url", task.endpoint, "--log", "error", "cp"]


def _rclone_trust(task: Task) -> list[str]:
    return ["--ca-cert", task.server.ca_bundle] if task.server.ca_bundle else []


def _aws(task: Task) -> Iterator[tuple[str, Command]]:
    for major, program in sorted(aws_programs().items()):
        for kind, text in (("CRT", _CRT), ("classic", _CLASSIC)):
            if kind == "CRT" and (major == "1" or task.server.port != 80):
                continue  # the CRT of aws cli 2.9 goes to port 80, whatever the endpoint says
            config = task.scratch / f"aws-{kind}"
            config.write_text(text)
            command = [
                program, "--endpoint-url", task.endpoint, "s3", "cp", "--quiet",
                str(task.path), _target(task),
            ]  # fmt: skip
            if not task.is_file:
                command.append("--recursive")
            unchecked = UNCHECKED if (major, kind) == ("2", "CRT") else ""
            yield (
                f"aws {major} {kind}{unchecked}",
                (command, {**task.environ(), "AWS_CONFIG_FILE": str(config)}),
            )


def _s3cmd(task: Task) -> Iterator[tuple[str, Command]]:
    program = find("s3cmd")
    if program is None:
        return
    host = f"127.0.0.1:{task.server.port}"
    command = [
        program, "--config", os.devnull, "--host", host, "--host-bucket", host, "--quiet",
        *(["--ssl", "--ca-certs", task.server.ca_bundle] if task.server.ca_bundle else ["--no-ssl"]),
        "--access_key", task.server.access_key, "--secret_key", task.server.secret_key,
        "put", *([] if task.is_file else ["--recursive"]),
        str(task.path) if task.is_file else f"{task.path}/", _target(task),
    ]  # fmt: skip
    yield "s3cmd", (command, task.environ())


def _target(task: Task) -> str:
    return f"s3://{BUCKET}/{task.prefix}"

"""The installed service under a real systemd: from its package to its removal."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.systemd.box import Box
from tests.systemd.instance import Bos, Instance

PART = 5 << 20
"""Bytes; BOS takes no smaller ones."""
PARTS = "part_size: 5MiB, concurrency: 2"


@pytest.fixture
def make(box: Box, request: pytest.FixtureRequest) -> Iterator[Callable[[], Instance]]:
    """Makes an instance of the service, prepared and not started."""
    made: list[Instance] = []

    def one() -> Instance:
        instance = Instance(box, f"t{os.urandom(3).hex()}")
        made.append(instance)
        instance.prepare()
        return instance

    yield one
    for instance in made:
        print(instance.journal("-o", "short-monotonic"))  # shown with a test that failed
        instance.remove()


@pytest.fixture
def instance(make: Callable[[], Instance]) -> Instance:
    return make()


@pytest.fixture
def bos(instance: Instance) -> Iterator[Bos]:
    """A BOS server in the box, and an instance that has it for its store, not started."""
    server = Bos(instance)
    server.start()
    instance.configure(store=server.store)
    yield server
    server.stop()


def begin_upload(bos: Bos, parts: int = 3) -> str:
    """An upload of which one part is in the store, the others not answered until `bos.clear`; its digest."""
    bos.control("fault", kind="hold", op="UploadPart", times=-1, skip=1)
    bos.instance.configure(store=bos.store, transfer=PARTS)
    bos.instance.start()
    digest = bos.instance.put("photos/big.bin", os.urandom(parts * PART))
    bos.box.until(lambda: bos.parts() == 1 and bos.held() > 0, seconds=40, what="the first part")
    return digest


# ---- install, start, upload -----------------------------------------------------------------------------


def test_package_brings_account_units_and_command(box: Box) -> None:
    """Installing makes the account without a shell, knows the units, starts nothing, and has the command."""
    assert box.run("getent", "passwd", "syncd").stdout.strip().endswith(":/usr/sbin/nologin")
    assert box.show("syncd.service", "LoadState") == "loaded"
    assert box.show("syncd.service", "ActiveState") == "inactive"
    assert box.show("syncd.service", "UnitFileState") == "disabled"
    assert box.run("syncd", "--version").stdout.startswith("syncd")
    shipped = box.run("dpkg", "--verify", "syncd").stdout
    assert shipped == ""


def test_from_nothing_to_a_running_service(box: Box) -> None:
    """Configuration, install-service, enable: after these even another user's private file arrives."""
    box.run("mkdir", "-p", "/srv/first/photos")
    box.run("install", "-d", "-o", "syncd", "-g", "syncd", "/srv/first/the store")
    box.write(
        "/etc/syncd/config.yaml",
        'stores: {nas: {type: dir, path: "/srv/first/the store"}}\n'
        "sources: [{name: photos, path: /srv/first/photos, store: nas, settle: 200ms}]\n",
    )
    try:
        said = box.run("syncd", "install-service").stdout
        # The package's own units serve; only what the configuration asks for is new.
        assert not box.path("/etc/systemd/system/syncd.service").exists()
        assert "systemctl enable --now syncd" in said
        assert box.show("syncd.service", "ReadWritePaths") == '"-/srv/first/the store"'
        box.run("systemctl", "enable", "--now", "syncd")
        assert box.show("syncd.service", "ActiveState") == "active"
        assert box.path("/etc/systemd/system/multi-user.target.wants/syncd.service").is_symlink()
        box.run("install", "-d", "-o", "nobody", "-m", "0700", "/srv/first/photos/private")
        box.write("/srv/first/photos/private/a.jpg", "picture", mode=0o600)
        box.run("chown", "nobody", "/srv/first/photos/private/a.jpg")
        there = box.path("/srv/first/the store/private/a.jpg")
        box.until(there.is_file, seconds=30, what="the file in the store")
        assert there.read_text() == "picture"
        box.until(
            lambda: box.show("syncd.service", "StatusText") == "idle: 1 file recorded",
            seconds=30,
            what="the status line",
        )
    finally:
        box.run("systemctl", "disable", "--now", "syncd", check=False)
        box.run("rm", "-rf", "/etc/syncd/config.yaml", "/etc/systemd/system/syncd.service.d", "/srv/first")
        box.run("rm", "-rf", "/var/lib/syncd")
        box.run("systemctl", "daemon-reload")


def test_documented_way_works(box: Box, package: Path) -> None:
    """The first commands of docs/systemd.md, as they stand there, end in a service that carries a file."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "systemd.md").read_text()
    commands = text.split("```sh\n", 1)[1].split("```", 1)[0]
    (box.share / "dist").mkdir()
    (box.share / "dist" / "syncd_0_any.deb").symlink_to(f"../{package.name}")
    box.write("/srv/photos/a.jpg", "picture")
    try:
        # Root already, and maybe without sudo.
        box.run("bash", "-c", f'cd /mnt/box; set -e; sudo() {{ "$@"; }}; {commands}', seconds=120)
        there = box.path("/srv/mirror/a.jpg")
        box.until(there.is_file, seconds=30, what="the file in the store")
        assert there.read_text() == "picture"
    finally:
        box.run("systemctl", "disable", "--now", "syncd", check=False)
        box.run("rm", "-rf", "/etc/syncd/config.yaml", "/etc/systemd/system/syncd.service.d")
        box.run("rm", "-rf", "/srv/photos", "/srv/mirror", "/var/lib/syncd")
        box.run("systemctl", "daemon-reload")


def test_install_service_from_another_installation(box: Box) -> None:
    """Without a package's units the command writes its own, and systemd takes them without a word."""
    vendor = "/usr/lib/systemd/system"
    box.run("sh", "-c", f"mkdir /var/away && mv {vendor}/syncd*.service /var/away/")
    try:
        box.run("syncd", "install-service")
        assert box.show("syncd.service", "FragmentPath") == "/etc/systemd/system/syncd.service"
        verified = box.run("systemd-analyze", "verify", "--man=no", "syncd.service", "syncd@a.service")
        assert verified.stdout + verified.stderr == ""
        again = box.run("syncd", "install-service").stdout
        assert "unchanged: /etc/systemd/system/syncd.service" in again
    finally:
        box.run("sh", "-c", f"mv /var/away/* {vendor}/ && rmdir /var/away")
        box.run("sh", "-c", "rm -f /etc/systemd/system/syncd*.service /etc/sysusers.d/syncd.conf")
        box.run("systemctl", "daemon-reload")


def test_ready_comes_before_the_first_scan_ends(instance: Instance) -> None:
    """`systemctl start` returns when the watches are set, not when every file has been looked at."""
    instance.configure(transfer="bandwidth_limit: 64KiB")
    folder = instance.box.path(f"{instance.home}/photos")
    for number in range(2000):
        (folder / f"{number:05}").write_bytes(b"%d" % number * 100)
    instance.start()
    assert instance.show("ActiveState") == "active"
    assert instance.status()["sources"][0]["files"]["recorded"] < 2000


# ---- reload ---------------------------------------------------------------------------------------------


def test_reload_takes_a_new_source(instance: Instance) -> None:
    """After `systemctl reload` with one more source, its files arrive; the process is the same."""
    instance.start()
    before = instance.pid
    instance.box.run("mkdir", f"{instance.home}/music")
    digest = instance.put("music/song", b"la la")
    instance.configure(sources=instance.source("photos") + instance.source("music"))
    instance.box.run("systemctl", "reload", instance.unit)
    instance.await_object("music/song", digest)
    assert instance.pid == before


def test_reload_with_a_bad_configuration_fails_and_changes_nothing(instance: Instance) -> None:
    """A mistake fails the reload, the journal shows it with its line, and the old configuration stays."""
    instance.start()
    before = instance.pid
    instance.box.write(instance.config, "stores: {}\nsauces: []\n")
    assert instance.box.run("systemctl", "reload", instance.unit, check=False).returncode != 0
    assert f"{instance.config}:2: sauces" in instance.journal()
    assert (instance.pid, instance.show("ActiveState")) == (before, "active")
    instance.await_object("photos/still", instance.put("photos/still", b"alive"))


def test_hangup_with_a_bad_configuration_is_survived_and_told(instance: Instance) -> None:
    """Sent past the unit's check, SIGHUP with a bad file is answered with a status, not with an end."""
    instance.start()
    before = instance.pid
    instance.box.write(instance.config, "stores: {}\nsauces: []\n")
    instance.box.run("systemctl", "kill", "--signal=HUP", instance.unit)
    instance.box.until(
        lambda: "reload failed" in instance.journal(), seconds=20, what="the failed reload in the journal"
    )
    instance.box.until(lambda: instance.show("ActiveState") == "active", seconds=20, what="READY=1")
    assert instance.pid == before


def test_reload_leaves_uploads_of_unchanged_sources_alone(bos: Bos) -> None:
    """An upload in flight goes on over a reload that adds another source; no byte is sent twice."""
    instance = bos.instance
    digest = begin_upload(bos)
    bos.box.run("mkdir", f"{instance.home}/music")
    both = instance.source("photos") + instance.source("music")
    instance.configure(store=bos.store, sources=both, transfer=PARTS)
    bos.box.run("systemctl", "reload", instance.unit)
    bos.box.until(lambda: "reloaded" in instance.journal(), seconds=20, what="the new configuration")
    bos.clear()
    bos.await_object("photos/big.bin", digest)
    assert instance.await_recorded()["totals"]["bytes_sent"] == 3 * PART


# ---- death and restart ----------------------------------------------------------------------------------


def test_killed_service_comes_back_and_resumes(bos: Bos) -> None:
    """After kill -9 in mid-upload it is started again, and the parts that are there are not sent again."""
    bos.instance.override("RestartSec=3")
    digest = begin_upload(bos)
    bos.instance.kill()
    bos.clear()
    bos.instance.await_start(1)
    bos.await_object("photos/big.bin", digest)
    assert bos.instance.await_recorded()["totals"]["bytes_saved"] >= PART


def test_service_killed_again_and_again_is_never_given_up(instance: Instance) -> None:
    """More deaths in a row than systemd's usual limit (5 in 10 s) do not end in `failed`."""
    instance.override("RestartSec=0")
    instance.start()
    for number in range(8):
        instance.kill()
        instance.await_start(number + 1)
    instance.await_object("photos/a", instance.put("photos/a", b"at last"))


def test_wrong_configuration_is_not_tried_again(instance: Instance) -> None:
    """A start with a mistake ends with exit code 78, once; the journal says what is wrong and where."""
    instance.override("RestartSec=0")
    instance.box.write(instance.config, "stores: {}\nsauces: []\n")
    assert instance.box.run("systemctl", "start", instance.unit, check=False).returncode != 0
    assert (instance.show("ActiveState"), instance.show("ExecMainStatus")) == ("failed", "78")
    assert instance.show("NRestarts") == "0"
    assert f"{instance.config}:2: sauces" in instance.journal()


def switches(box: Box, pid: int) -> dict[int, int]:
    """How often each thread has gone to sleep so far: who moves, does it often."""
    counts: dict[int, int] = {}
    for task in box.path(f"/proc/{pid}/task").iterdir():
        status = dict(
            line.split(":\t") for line in (task / "status").read_text().splitlines() if ":\t" in line
        )
        counts[int(task.name)] = int(status["voluntary_ctxt_switches"])
    return counts


@contextmanager
def frozen(box: Box, threads: Iterable[int]) -> Iterator[None]:
    """Hold these threads still, whatever they do, until they die."""
    (box.share / "freeze.py").write_text(Path(__file__).with_name("freeze.py").read_text())
    freezer = subprocess.Popen(
        [*box.entering(), "/usr/bin/python3", "/mnt/box/freeze.py", *map(str, threads)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert freezer.stdout is not None
    try:
        assert freezer.stdout.readline() == "frozen\n"
        yield
    finally:
        freezer.kill()
        freezer.wait()
        freezer.stdout.close()


def test_hung_worker_is_noticed_by_the_watchdog(bos: Bos) -> None:
    """Threads that carry a file and stand still stop the pings: the service is killed, and resumes."""
    instance, box = bos.instance, bos.box
    instance.override("WatchdogSec=4", "RestartSec=0")
    digest = begin_upload(bos)
    box.until(lambda: bos.held() == 2, seconds=30, what="two parts that are not answered")
    pid = instance.pid
    before = switches(box, pid)
    carrying: set[int] = set()

    def two_move() -> bool:
        now = switches(box, pid)
        carrying.update(thread for thread, count in now.items() if count - before.get(thread, count) >= 5)
        return len(carrying - {pid}) >= 2

    box.until(two_move, seconds=20, what="the threads that wait for the store")
    with frozen(box, carrying - {pid}):
        bos.clear()  # they have their answers now, and do not take them
        instance.await_start(1, seconds=60)
    assert "Watchdog timeout" in instance.journal()
    bos.await_object("photos/big.bin", digest)


def test_slow_store_is_not_a_hang(bos: Bos) -> None:
    """A store that takes longer to answer than the watchdog's limit does not get the service killed."""
    instance = bos.instance
    instance.override("WatchdogSec=2")
    bos.control("fault", kind="hold_after", op="PutObject")
    instance.start()
    digest = instance.put("photos/a", b"slow")
    bos.box.until(lambda: bos.held() == 1, seconds=30, what="a request that is not answered")
    pings = int(instance.show("WatchdogTimestampMonotonic"))
    bos.box.until(
        lambda: int(instance.show("WatchdogTimestampMonotonic")) > pings + 5_000_000,
        seconds=30,
        what="pings for longer than twice the limit",
    )
    bos.clear()
    instance.await_recorded()
    assert (bos.digest("photos/a"), instance.starts()) == (digest, 0)


def test_stop_in_mid_upload_is_clean_and_start_resumes(bos: Bos) -> None:
    """`systemctl stop` ends within its limit with exit code 3, a success; the next start sends only what is
    missing.
    """
    instance = bos.instance
    # The manager forgets a unit that it has stopped, so the unit has to tell.
    instance.override("ExecStopPost=/bin/sh -c 'echo ended $$SERVICE_RESULT $$EXIT_STATUS'")
    digest = begin_upload(bos)
    bos.box.run("systemctl", "stop", instance.unit)
    bos.box.run("journalctl", "--sync")
    assert "ended success 3" in instance.journal()
    assert bos.digest("photos/big.bin") is None
    bos.clear()
    instance.start()
    bos.await_object("photos/big.bin", digest)
    assert instance.await_recorded()["totals"]["bytes_saved"] >= PART


def test_drain_takes_longer_than_the_manager_waits_and_leaves_nothing(instance: Instance) -> None:
    """With `stop: drain`, what is known is sent before the end, also what settles; the manager, which would
    kill after a second, waits for as long as it is told of progress. The exit code is 0.
    """
    instance.override(
        "TimeoutStopSec=1", "ExecStopPost=/bin/sh -c 'echo ended $$SERVICE_RESULT $$EXIT_STATUS'"
    )
    settling = instance.source("photos").replace("settle: 200ms", "settle: 1h")
    instance.configure(sources=settling, transfer="bandwidth_limit: 1MiB", stop="drain")
    instance.start()
    digest = instance.put("photos/big.bin", os.urandom(4 << 20))
    instance.box.until(
        lambda: instance.status()["sources"][0]["files"]["pending"] == 1, seconds=30, what="the event"
    )
    instance.box.run("systemctl", "stop", instance.unit)
    instance.box.run("journalctl", "--sync")
    assert "ended success 0" in instance.journal()
    assert instance.digest("photos/big.bin") == digest


# ---- sandbox and secrets --------------------------------------------------------------------------------


def test_sandbox_refuses_to_write_into_the_watched_folder(instance: Instance) -> None:
    """In the service's view the source is read-only, even for root, and the store is not."""
    instance.start()
    inside = ["nsenter", "-t", str(instance.pid), "-m", "touch"]
    refused = instance.box.run(*inside, f"{instance.home}/photos/forbidden", check=False)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr
    instance.box.run(*inside, f"{instance.home}/store/allowed")


def test_service_has_two_capabilities_and_no_more(instance: Instance) -> None:
    """The process may read all files and ask who writes to them; every other privilege is gone, for good."""
    instance.start()
    text = instance.box.path(f"/proc/{instance.pid}/status").read_text()
    status = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    expected = 1 << 2 | 1 << 28  # CAP_DAC_READ_SEARCH and CAP_LEASE, capabilities(7)
    sets = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")}
    assert sets == dict.fromkeys(sets, expected)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_agent_of_the_group_may_ask_and_not_steer(instance: Instance) -> None:
    """It needs neither root nor the account of the service. One outside the group is told that it may not
    look, not that nothing runs.
    """
    instance.start()

    def ask(*command: str, groups: str = "--groups=syncd") -> subprocess.CompletedProcess[str]:
        agent = ["setpriv", "--reuid=nobody", "--regid=nogroup", groups, "syncd"]
        return instance.box.run(*agent, *command, "-c", instance.config, check=False)

    assert json.loads(ask("status", "--json").stdout)["daemon"]["pid"] > 0
    assert (ask("health").returncode, ask("health").stdout) == (0, "ok\n")
    assert ask("pending").stdout == "nothing waits\n"
    steered = ask("pause")
    assert (steered.returncode, "you may query the daemon, but not control it" in steered.stderr) == (2, True)
    outside = ask("health", groups="--clear-groups")
    assert (outside.returncode, "cannot tell whether a daemon runs" in outside.stderr) == (69, True)


def test_tree_hidden_by_the_sandbox_is_not_taken_for_deleted(instance: Instance) -> None:
    """PrivateTmp over a source below /tmp: no object goes, and the status names the directive."""
    root = f"/tmp/{instance.name}"
    instance.box.run("mkdir", root)
    instance.configure(sources=instance.source("tmp", ", on_delete: delete", root))
    instance.override("PrivateTmp=no")
    instance.box.write(f"{root}/a", "kept")
    instance.start()
    box = instance.box
    box.until(lambda: instance.digest("tmp/a") is not None, seconds=30, what="the object")
    box.until(
        lambda: instance.status()["sources"][0]["files"]["recorded"] == 1, seconds=20, what="the commit"
    )
    instance.override("PrivateTmp=yes")
    box.run("systemctl", "restart", instance.unit)
    box.until(
        lambda: "PrivateTmp=" in str(instance.status()["sources"][0]["waiting_for"]),
        seconds=30,
        what="the directive in the status",
    )
    assert instance.digest("tmp/a") is not None
    assert instance.status()["sources"][0]["files"]["recorded"] == 1


def test_keys_reach_the_service_and_nobody_else(bos: Bos) -> None:
    """The secret signs requests; no file that others can read, no environment, no journal line shows it."""
    box, instance = bos.box, bos.instance
    instance.start()
    bos.await_object("photos/a", instance.put("photos/a", b"x"))
    handed = f"/run/credentials/{instance.unit}/key"
    assert box.run("stat", "-c", "%U %a", handed).stdout.split() == ["syncd", "400"]
    assert box.run("runuser", "-u", "nobody", "--", "cat", handed, check=False).returncode != 0
    told = box.run("systemctl", "show", instance.unit).stdout
    told += box.run("systemctl", "cat", instance.unit).stdout
    for name in ("environ", "cmdline"):
        told += box.path(f"/proc/{instance.pid}/{name}").read_text()
    told += instance.journal()
    assert Bos.SECRET not in told
    state = box.path(f"/var/lib/syncd-{instance.name}")
    secret = Bos.SECRET.encode()
    assert [path for path in state.rglob("*") if path.is_file() and secret in path.read_bytes()] == []


def test_missing_key_stops_the_unit_with_243(bos: Bos) -> None:
    """A credential whose file is not there is systemd's own exit code, as the documentation says."""
    bos.instance.override("Restart=no")
    bos.box.run("rm", f"{Bos.FOLDER}/key")
    assert bos.box.run("systemctl", "start", bos.instance.unit, check=False).returncode != 0
    assert bos.instance.show("ExecMainStatus") == "243"


def test_key_may_be_encrypted_on_disk(bos: Bos) -> None:
    """LoadCredentialEncrypted= hands over what systemd-creds encrypted; no plain key is on disk."""
    box, instance = bos.box, bos.instance
    encrypted = f"{Bos.FOLDER}/key.cred"
    box.run("systemd-creds", "encrypt", "--name=key", f"{Bos.FOLDER}/key", encrypted)
    box.run("rm", f"{Bos.FOLDER}/key")
    plain = f"LoadCredential=key-id:{Bos.FOLDER}/key-id"
    instance.override("LoadCredential=", plain, f"LoadCredentialEncrypted=key:{encrypted}")
    instance.start()
    bos.await_object("photos/a", instance.put("photos/a", b"x"))


def test_token_of_the_page_is_a_credential(instance: Instance) -> None:
    """Handed over like a key: only the service has it, a reload keeps it, and a restart takes a new one."""
    box, folder, tokens = instance.box, "/etc/syncd/credentials", ("0123456789abcdef", "fedcba9876543210")
    box.run("install", "-d", "-m", "0700", folder)
    http = "address: '127.0.0.1:8737', token_file: '${CREDENTIALS_DIRECTORY}/http-token'"
    instance.configure(http=http)
    box.write(f"{folder}/http-token", f"{tokens[0]}\n", mode=0o600)
    instance.override(f"LoadCredential=http-token:{folder}/http-token")
    try:
        instance.start()
        assert instance.home not in instance.page()[1]
        assert instance.page(tokens[0])[0] == 200
        box.run("systemctl", "reload", instance.unit)
        assert f"{instance.home}/photos" in instance.page(tokens[0])[1]
        box.write(f"{folder}/http-token", f"{tokens[1]}\n", mode=0o600)
        box.run("systemctl", "restart", instance.unit)
        assert [instance.page(token)[0] for token in tokens] == [401, 200]
        assert not any(token in instance.journal() for token in tokens)
    finally:
        box.run("rm", "-rf", folder)


def test_rotated_key_is_used_after_a_restart(bos: Bos) -> None:
    """The copy is that of the start; a restart takes the new one, and what was refused is sent."""
    instance = bos.instance
    bos.give_keys("AKIDOLD")
    instance.start()
    digest = instance.put("photos/a", b"x")
    bos.box.until(
        lambda: instance.status()["daemon"].get("stores_paused"), seconds=30, what="a store that refuses"
    )
    bos.give_keys("AKIDFIRST")
    bos.box.run("systemctl", "restart", instance.unit)
    bos.await_object("photos/a", digest)


def test_journal_has_one_line_an_event_with_its_priority(instance: Instance) -> None:
    """Start and stop are informational lines, without a prefix left in their text."""
    instance.start()
    instance.box.run("systemctl", "stop", instance.unit)
    instance.box.run("journalctl", "--sync")
    arguments = ["-u", instance.unit, "-o", "json", "--no-pager", "_TRANSPORT=stdout"]
    entries = [json.loads(line) for line in instance.box.run("journalctl", *arguments).stdout.splitlines()]
    ours = [entry for entry in entries if entry["SYSLOG_IDENTIFIER"] == f"syncd@{instance.name}"]
    assert any(entry["MESSAGE"].startswith("ready") and entry["PRIORITY"] == "6" for entry in ours)
    assert any(entry["MESSAGE"].startswith("stopping") and entry["PRIORITY"] == "6" for entry in ours)
    assert [entry["MESSAGE"] for entry in ours if entry["MESSAGE"].startswith("<")] == []


# ---- a user's own, and the end --------------------------------------------------------------------------


def test_user_runs_it_without_being_logged_in(box: Box) -> None:
    """With lingering, a user's own unit starts, uploads what the user may read, and stops."""
    box.run("useradd", "--create-home", "ada")
    box.run("loginctl", "enable-linger", "ada")
    uid = box.run("id", "-u", "ada").stdout.strip()
    as_ada = ["runuser", "-u", "ada", "--", "env", "HOME=/home/ada", f"XDG_RUNTIME_DIR=/run/user/{uid}"]
    manager = [*as_ada, "systemctl", "--user"]
    box.until(
        lambda: box.run(*manager, "is-system-running", check=False).stdout.strip() == "running",
        seconds=30,
        what="the user's manager",
    )
    for folder in (".config/syncd", "photos", "mirror"):
        box.run(*as_ada, "mkdir", "-p", f"/home/ada/{folder}")
    box.write(
        "/home/ada/.config/syncd/config.yaml",
        "stores: {disk: {type: dir, path: ~/mirror}}\n"
        "sources: [{name: photos, path: ~/photos, store: disk, settle: 200ms}]\n",
    )
    box.run(*as_ada, "sh", "-c", "echo picture > /home/ada/photos/a.jpg")
    box.run(*as_ada, "syncd", "install-service", "--user")
    box.run(*manager, "enable", "--now", "syncd")
    try:
        there = box.path("/home/ada/mirror/a.jpg")
        box.until(there.is_file, seconds=30, what="the file in the store")
        assert there.read_text() == "picture\n"
        report = json.loads(box.run(*as_ada, "syncd", "status", "--json").stdout)
        assert report["daemon"]["running"] is True
    finally:
        box.run(*manager, "disable", "--now", "syncd")
    assert box.show("syncd.service", "Result", manager=manager) == "success"
    box.run("loginctl", "disable-linger", "ada")


def test_removal_and_purge(box: Box, package: Path) -> None:
    """Removing stops the service; purging takes the state; configuration and objects stay."""
    instance = Instance(box, "leaving")
    instance.prepare()
    instance.start()
    digest = instance.put("photos/a", b"stays")
    instance.await_object("photos/a", digest)
    box.run("dpkg", "--purge", "syncd")
    try:
        assert instance.show("ActiveState") != "active"
        assert not box.path(f"/var/lib/syncd-{instance.name}").exists()
        assert not box.path("/usr/lib/syncd").exists()
        assert box.path(instance.config).exists()
        assert instance.digest("photos/a") == digest
    finally:
        box.run("dpkg", "--install", f"/mnt/box/{package.name}")
        instance.remove()

"""What install-service writes, for whom, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from syncd.cli import install
from syncd.cli.install import MARK, Wants, drop_in, install_service, quoted, unit_text
from syncd.config import load
from tests.unit.cli.home import Home

ORIGINALS = Path(__file__).resolve().parents[3] / "systemd"


def manager(version: int = 252) -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        said = (
            f"systemd {version} ({version}.1)\n+PAM\n" if list(command) == ["systemctl", "--version"] else ""
        )
        return subprocess.CompletedProcess(list(command), 0, said, "")

    return run


class Machine:
    """A root directory to install into, and what the command printed."""

    def __init__(self, root: Path, config: str = "") -> None:
        self.root = root
        self.said: list[str] = []
        self.config = root / "srv" / "config.yaml"
        if config:
            self.config.parent.mkdir(parents=True, exist_ok=True)
            self.config.write_text(config)

    def install(self, *, user: bool = False, print_only: bool = False, version: int = 252) -> int:
        self.said = []
        return install_service(
            user=user,
            config_path=str(self.config),
            print_only=print_only,
            root=str(self.root),
            environ={"HOME": "/home/ada"},
            runner=manager(version),
            say=self.said.append,
        )

    def files(self) -> dict[str, str]:
        found = (path for path in self.root.rglob("*") if path.is_file() and path != self.config)
        return {str(path.relative_to(self.root)): path.read_text() for path in found}


DROP_IN = "etc/systemd/system/syncd.service.d/10-install.conf"
CONFIG = """\
stores:
  nas: {{type: dir, path: "{store}"}}
sources:
  - {{name: camera, path: "{source}", store: nas}}
"""
FAR = """\
stores:
  far: {{type: s3, endpoint: "http://127.0.0.1:9", bucket: photos, {keys}}}
sources:
  - {{name: camera, path: "{source}", store: far}}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "photos").mkdir()
    return Machine(tmp_path / "root", CONFIG.format(store=tmp_path / "my mirror", source=tmp_path / "photos"))


def test_system_install_writes_units_account_and_drop_in(machine: Machine) -> None:
    """A system install consists of both units, the account, and the drop-in that is asked for."""
    assert machine.install() == 0
    assert sorted(machine.files()) == [
        "etc/systemd/system/syncd.service",
        DROP_IN,
        "etc/systemd/system/syncd@.service",
        "etc/sysusers.d/syncd.conf",
    ]


def test_units_start_this_installation_with_that_configuration(machine: Machine) -> None:
    """The written unit is the original, except for the program's path and the configuration's."""
    machine.install()
    written = machine.files()["etc/systemd/system/syncd.service"]
    assert written.startswith(MARK)
    original = (ORIGINALS / "syncd.service").read_text().splitlines()
    changed = [
        (before, after)
        for before, after in zip(original, written.removeprefix(MARK).splitlines(), strict=True)
        if before != after
    ]
    assert [after.partition("=")[0] for _, after in changed] == ["ExecStart", "ExecReload"]
    program = changed[0][1].partition("=")[2].split(" run -c ")[0].split(" ")[0]
    assert Path(program).is_file()
    assert all(after.endswith(f"-c {machine.config}") for _, after in changed)


def test_second_install_changes_nothing(machine: Machine) -> None:
    """Running it twice gives the same files and says so."""
    machine.install()
    before = machine.files()
    assert machine.install() == 0
    assert machine.files() == before
    assert [line for line in machine.said if line.startswith(("written", "updated"))] == []


def test_store_directory_becomes_writable(machine: Machine, tmp_path: Path) -> None:
    """A directory store gets its hole in the sandbox, quoted, and a note says how to make it."""
    machine.install()
    assert f'ReadWritePaths=-"{tmp_path}/my mirror"' in machine.files()[DROP_IN].splitlines()
    assert any("install -d -o syncd" in line for line in machine.said)


def test_store_that_went_away_closes_its_hole(machine: Machine, tmp_path: Path) -> None:
    """After the configuration changed, the drop-in follows, and goes when it has nothing to say."""
    machine.install()
    machine.config.write_text(
        FAR.format(keys="access_key_id: aaaaaaaa, secret_access_key: bbbbbbbb", source=tmp_path / "photos")
    )
    machine.install()
    text = machine.files().get(DROP_IN, "")
    assert "ReadWritePaths" not in text
    assert "aaaaaaaa" not in "".join(machine.files().values()) + "".join(machine.said)


def test_tree_below_tmp_turns_private_tmp_off(tmp_path: Path) -> None:
    """A source that a private /tmp would hide is not hidden (catalogue row O7)."""
    (tmp_path / "photos").mkdir()
    assert str(tmp_path).startswith("/tmp"), "pytest's directories are expected below /tmp"
    machine = Machine(tmp_path / "root", CONFIG.format(store="/srv/mirror", source=tmp_path / "photos"))
    machine.install()
    assert "PrivateTmp=no" in machine.files()[DROP_IN].splitlines()


def test_key_files_of_the_configuration_become_credentials(tmp_path: Path) -> None:
    """Each key in $CREDENTIALS_DIRECTORY is loaded from beside the configuration, encrypted or not."""
    (tmp_path / "photos").mkdir()
    inside = "'${CREDENTIALS_DIRECTORY}/"
    keys = f"access_key_file: {inside}key-id', secret_key_file: {inside}key'"
    machine = Machine(tmp_path / "root", FAR.format(keys=keys, source=tmp_path / "photos"))
    folder = machine.config.parent / "credentials"
    folder.mkdir()
    (folder / "key.cred").write_text("x")
    machine.install()
    lines = machine.files()[DROP_IN].splitlines()
    assert f"LoadCredential=key-id:{folder}/key-id" in lines
    assert f"LoadCredentialEncrypted=key:{folder}/key.cred" in lines
    assert [line for line in machine.said if "243/CREDENTIALS" in line] == [
        f"Put key-id into {folder}/key-id (mode 0600); without it the unit stops with 243/CREDENTIALS."
    ]


@pytest.mark.parametrize(("version", "grows"), [(252, False), (254, True), (257, True)])
def test_growing_restart_delay_where_systemd_knows_it(machine: Machine, version: int, grows: bool) -> None:
    """The settings of systemd 254 are written only for a manager that understands them."""
    machine.install(version=version)
    assert ("RestartMaxDelaySec=5min" in machine.files()[DROP_IN].splitlines()) is grows


def test_user_install_stays_in_the_home(machine: Machine) -> None:
    """A user's unit goes to the user's manager; no account, no holes in a sandbox that it has not."""
    assert machine.install(user=True) == 0
    assert sorted(machine.files()) == ["home/ada/.config/systemd/user/syncd.service"]
    assert any("enable-linger" in line for line in machine.said)


def test_print_shows_and_writes_nothing(machine: Machine) -> None:
    """--print shows every file with its place and leaves the machine as it was."""
    assert machine.install(print_only=True) == 0
    assert machine.files() == {}
    text = "\n".join(machine.said)
    assert "# ==> /etc/systemd/system/syncd@.service <==" in text
    assert "WantedBy=multi-user.target" in text


def test_a_unit_without_our_mark_is_not_replaced(machine: Machine) -> None:
    """A file without our mark stays, and the command says which one is in the way."""
    theirs = machine.root / "etc/systemd/system/syncd.service"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[Service]\nExecStart=/bin/mine\n")
    assert machine.install() == 1
    assert theirs.read_text() == "[Service]\nExecStart=/bin/mine\n"
    assert any(str(theirs) in line for line in machine.said)


def test_bad_configuration_still_installs_and_tells(machine: Machine) -> None:
    """The units are written; every mistake in the configuration is printed."""
    machine.config.write_text("stores: {}\nsauces: []\n")
    assert machine.install() == 0
    assert "etc/systemd/system/syncd.service" in machine.files()
    assert any("sauces" in line for line in machine.said)


@pytest.mark.parametrize("user", [False, True])
def test_where_there_is_no_configuration_one_is_begun(machine: Machine, user: bool) -> None:
    """It carries attributes and leaves out temporary names, has no mistakes, and is never written again."""
    machine.config.unlink()
    assert machine.install(user=user) == 0
    assert f"{machine.config} is an example: change it, then run install-service again." in machine.said
    begun = Path(f"{machine.root}{machine.config}")
    (source,) = load.load(str(begun), {"HOME": "/home/ada"}).sources
    assert (source.keeps_attributes, source.exclude_temporary, source.records_folders) == (True, True, True)
    begun.write_text("# mine\n")
    machine.install(user=user)
    assert begun.read_text() == "# mine\n"


def test_a_configuration_that_is_there_stays(machine: Machine) -> None:
    """Also one that leads elsewhere."""
    machine.config.unlink()
    machine.config.symlink_to("/nowhere")
    assert machine.install() == 0
    assert machine.config.readlink() == Path("/nowhere")
    assert not Path(f"{machine.root}{machine.config}").exists()


def test_account_that_cannot_be_made_fails_the_install() -> None:
    """Without the account the service could not start: exit code 1, with what the tool said."""
    said: list[str] = []

    def refuse(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(list(command), 1, "", "no space left")

    assert install._tell_manager(install._place(False, {}), refuse, said.append) == 1
    assert said == ["systemd-sysusers did not make the account syncd: no space left"]


def test_an_absent_manager_is_no_failure() -> None:
    """An image or a container has no manager; the files are there."""
    asked: list[list[str]] = []

    def absent(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        asked.append(list(command))
        return subprocess.CompletedProcess(list(command), 127, "", "No such file")

    said: list[str] = []
    assert install._tell_manager(install._place(True, {"HOME": "/home/ada"}), absent, said.append) == 0
    assert asked == [["systemctl", "--user", "daemon-reload"]]
    assert said == ["systemd did not reload its units (is it running?): No such file"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/srv/plain", "/srv/plain"),
        ("/srv/my photos", '"/srv/my photos"'),
        ("/srv/50%", "/srv/50%%"),
        ('/srv/"quoted"\\', '"/srv/\\"quoted\\"\\\\"'),
        ("/srv/ä", "/srv/ä"),
    ],
)
def test_word_of_a_unit_file(text: str, word: str) -> None:
    """Spaces, quotes, backslashes and per cent signs reach systemd as they are."""
    assert quoted(text) == word


@pytest.mark.parametrize("text", ["/srv/a\nb", "/srv/\udcff", "/srv/\x07"])
def test_path_that_no_unit_file_can_hold_is_refused(text: str) -> None:
    """Control characters and bytes that are not UTF-8 cannot be written in a unit file."""
    with pytest.raises(ValueError, match="UTF-8"):
        quoted(text)


def test_program_of_several_words_and_dollar_signs() -> None:
    """An interpreter with -m, and paths with $, stay what they are in an Exec line."""
    text = unit_text(
        "ExecStart=/usr/bin/syncd run -c %E/syncd/config.yaml\n", ["/o p/py", "-m", "syncd"], "/a$b"
    )
    assert text == 'ExecStart="/o p/py" -m syncd run -c /a$$b\n'


def test_only_exec_lines_are_changed() -> None:
    """A comment that mentions the program stays as it is."""
    assert unit_text("# /usr/bin/syncd\n", [sys.executable], None) == "# /usr/bin/syncd\n"


def test_drop_in_without_wishes_is_none() -> None:
    """Nothing to say, no file."""
    assert drop_in(Wants(), 252) is None


def test_units_are_printed(home: Home) -> None:
    """``install-service --print`` writes nothing."""
    done = home.run("install-service", "--user", "--print")
    assert done.exit_code == 0
    assert "[Service]" in done.stdout

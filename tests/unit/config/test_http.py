"""The keys of `http`: what is an address, what is a token, and when one has to be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.config import load as config
from syncd.core.errors import ConfigError
from tests.unit.config.loading import SMALL, load, said

TOKEN = "0123456789abcdef"


def http(place: Path, lines: str, **environ: str) -> config.AddressSettings:
    return load(place, f"{SMALL}http: {{{lines}}}\n", **environ).http


def token_file(place: Path, text: str = f"{TOKEN}\n", mode: int = 0o600) -> Path:
    file = place / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_it_is_off_unless_set(tmp_path: Path) -> None:
    """Without the section there is no address."""
    assert load(tmp_path, SMALL).http == config.AddressSettings()
    assert not load(tmp_path, SMALL).http.host


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("address: 127.0.0.1:8737", config.AddressSettings("127.0.0.1", 8737)),
        ('address: "[::1]:1"', config.AddressSettings("::1", 1)),
        ("address: 127.9.9.9:65535", config.AddressSettings("127.9.9.9", 65535)),
        ("address: 0.0.0.0:80, token_file: token", config.AddressSettings("0.0.0.0", 80, TOKEN)),
        (
            'address: "${WHERE}", names: [nas.lan, n]',
            config.AddressSettings("127.0.0.1", 8737, names=("nas.lan", "n")),
        ),
    ],
)
def test_an_address_is_a_number_and_a_port(
    tmp_path: Path, lines: str, expected: config.AddressSettings
) -> None:
    """Of either family, from the file or the environment; one that others reach has a token."""
    token_file(tmp_path)
    assert http(tmp_path, lines, WHERE="127.0.0.1:8737") == expected


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("", "http.address: found nothing; expected an IP address and a port"),
        ("address: 8737", "http.address: found the number `8737`; expected an IP address and a port"),
        ('address: "::1:8737"', "expected an IP address and a port"),
        ('address: "[127.0.0.1]:8737"', "expected an IP address and a port"),
        ("address: 127.0.0.1", "expected an IP address and a port"),
        ("address: 127.0.0.1:0", "expected a port between 1 and 65535"),
        ("address: 127.0.0.1:65536", "expected a port between 1 and 65535"),
        (
            "address: 0.0.0.0:80",
            "http.token_file: found nothing; expected the file of a token, because other",
        ),
        ('address: "[::]:80"', "http.token_file: found nothing"),
        ("address: 127.0.0.1:1, names: [NAS.lan]", "http.names[0]: found `NAS.lan`; expected a host name in"),
        (
            "address: 127.0.0.1:1, token_file: none",
            "(No such file or directory); expected a file that can be",
        ),
        ("address: 127.0.0.1:1, token_file: short", "which holds none; expected a file with one line of 16"),
        ("address: 127.0.0.1:1, token_file: .", "(Is a directory); expected a file that can be read"),
        ("address: 127.0.0.1:1, token_file: fifo", "which holds none; expected a file with one line of 16"),
        (
            "address: 127.0.0.1:1, tokenfile: token",
            "found an unknown key; expected `token_file`, the nearest",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, lines: str, problem: str) -> None:
    """Where, what was found, and what was expected."""
    (tmp_path / "short").write_text("too short\n")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError) as caught:
        http(tmp_path, lines)
    (text,) = said(caught.value)
    assert problem in text
    assert f"{tmp_path}/config.yaml:6: " in text


@pytest.mark.parametrize("text", ["", "x" * 15, "x" * 257, "two words are no token", "\xe4" * 16, "a\n" * 20])
def test_a_token_is_one_line_of_signs(tmp_path: Path, text: str) -> None:
    """What fits a header as it is; the message does not show it."""
    token_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        http(tmp_path, "address: 127.0.0.1:1, token_file: token")
    assert not text or text not in str(caught.value)


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    """Nor may every user of the machine read it without a warning."""
    token_file(tmp_path, mode=0o644)
    settings = load(tmp_path, f"{SMALL}http: {{address: 127.0.0.1:1, token_file: token}}\n")
    assert settings.http.token == TOKEN
    assert TOKEN not in repr(settings)
    (warning,) = settings.warnings
    assert "http.token_file" in warning
    assert "run `chmod 600`" in warning


@pytest.mark.parametrize("with_secrets", [True, False])
def test_only_the_daemon_reads_the_token(tmp_path: Path, with_secrets: bool) -> None:
    """Who runs a command may not be allowed to, and its place may be named by a variable of the service."""
    text = f'{SMALL}http: {{address: 0.0.0.0:80, token_file: "${{CREDENTIALS_DIRECTORY}}/token"}}\n'
    (tmp_path / "config.yaml").write_text(text)
    found = config.load(str(tmp_path / "config.yaml"), {"HOME": str(tmp_path)}, with_secrets=with_secrets)
    assert (found.http.host, found.http.token) == ("0.0.0.0", "")
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY"):
        load(tmp_path, text)

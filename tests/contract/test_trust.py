"""Trust over TLS: only a server whose certificate holds, whatever the environment tries to switch off.

What concerns self-signed certificates and those of other hosts is in `test_transport.py`.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import fields

from syncd.config import load as config
from syncd.core.errors import AccessRefused, ConfigError
from syncd.storage.http import connect as dial
from syncd.storage.http.messages import Request
from syncd.storage.settings import BosSettings, HttpSettings, S3Settings
from tests.support.hostile import OK, Certificate, HostileServer, answers, make_certificate
from tests.unit.storage.http.transports import Kind, every_transport

AUTHORITY = """
[ca]
default_ca = test
[test]
database = {0}/index
serial = {0}/serial
new_certs_dir = {0}
default_md = sha256
policy = names
x509_extensions = server
[names]
commonName = supplied
[server]
subjectAltName = IP:127.0.0.1
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature,keyCertSign
"""


def _made_in_the_past(directory: Path) -> Certificate:
    """For 127.0.0.1, by itself as its own authority, good for one month of the year 2020."""
    cert, key, request = (str(directory / name) for name in ("cert.pem", "key.pem", "request.pem"))
    (directory / "ca.conf").write_text(AUTHORITY.format(directory))
    (directory / "index").touch()
    (directory / "serial").write_text("01\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        ("req", "-new", *curve, "-subj", "/CN=syncd test", "-keyout", key, "-out", request),
        (
            *("ca", "-batch", "-notext", "-selfsign", "-config", str(directory / "ca.conf")),
            *("-keyfile", key, "-in", request, "-out", cert),
            *("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"),
        ),
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)
    return Certificate(cert, key)


def _refused(kind: Kind, certificate: Certificate, **settings: object) -> tuple[AccessRefused, int]:
    """The refusal of a server with this certificate, and how many requests it has seen."""
    with HostileServer([answers(OK)], certificate) as server:
        http = HttpSettings(server.endpoint, **settings)  # type: ignore[arg-type]
        transport = kind(http, should_stop=lambda: False, on_sent=lambda size: None)
        with pytest.raises(AccessRefused) as caught:
            transport.send(Request("PUT", server.host, "/b/k", body=b"x"))
        transport.close()
        return caught.value, len(server.received)


@every_transport
def test_a_certificate_that_has_expired_stops_the_store(kind: Kind, tmp_path: Path) -> None:
    """Even one that the settings name as an authority; the text says why, and no byte of a request left."""
    old = _made_in_the_past(tmp_path)
    error, requests = _refused(kind, old, ca_bundle=old.cert)
    assert "expired" in str(error)
    assert not error.credentials
    assert requests == 0


@every_transport
@pytest.mark.parametrize(
    "name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PYTHONHTTPSVERIFY", "SSL_CERT_FILE"]
)
@pytest.mark.parametrize("value", ["", "0", "false"])
def test_no_variable_of_the_environment_turns_it_off(
    kind: Kind, name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the environment is trusted to name proxies and authorities."""
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "*")
    _, requests = _refused(kind, make_certificate(tmp_path), trust_environment=True)
    assert requests == 0


@pytest.mark.parametrize("trust_environment", [True, False])
def test_every_context_verifies(tmp_path: Path, trust_environment: bool) -> None:
    """Certificate and host name, and nothing older than TLS 1.2."""
    bundle = make_certificate(tmp_path).cert
    for ca_bundle in ("", bundle):
        http = HttpSettings("https://x", ca_bundle=ca_bundle, trust_environment=trust_environment)
        context = dial.Line(http, should_stop=lambda: False, on_sent=lambda size: None).tls()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_no_setting_is_about_not_verifying() -> None:
    """What a store's settings hold on the matter is whom to trust, and nothing else."""
    names = {field.name for kind in (HttpSettings, S3Settings, BosSettings) for field in fields(kind)}
    suspicious = ("verif", "secure", "tls", "ssl", "cert", "check", "trust", "ca_")
    assert {name for name in names if any(word in name for word in suspicious)} == {
        "ca_bundle",
        "trust_environment",
    }


@pytest.mark.parametrize(
    "key", ["verify", "verify_tls", "insecure", "ssl_verify", "tls_verify", "no_check_certificate"]
)
def test_no_key_of_the_configuration_turns_it_off(tmp_path: Path, key: str) -> None:
    """The words that other programs use are unknown here, and nothing is started."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "config.yaml"
    file.write_text(
        "stores:\n  s: {type: s3, endpoint: 'https://127.0.0.1:1', bucket: photos, access_key_id: a, "
        f"secret_access_key: b, {key}: false}}\n"
        f"sources: [{{name: n, path: {tmp_path / 'folder'}, store: s}}]\n"
    )
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        config.load(str(file), {})
    assert any(f"stores.s.{key}" in str(problem) for problem in caught.value.problems)

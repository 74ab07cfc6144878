"""Each type of store: its keys arrive as settings; what is only warned of; no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import load as config
from syncd.config.stores import CREDENTIAL_KEYS, SECRET_KEYS, S3Entry
from syncd.core.errors import ConfigError
from syncd.storage.settings import BosSettings, HttpSettings, KeySettings, S3Settings
from tests.unit.config.loading import FOR_STORE, load, load_store, said

MIB = 1 << 20


def test_a_bos_store(tmp_path: Path) -> None:
    """All keys of a store of type bos; https where the endpoint names no scheme."""
    (tmp_path / "ca.pem").write_text("x")
    bos = load_store(
        tmp_path,
        "type: bos, bucket: photos, endpoint: bj.bcebos.com, access_key_id: id, secret_access_key: '${KEY}'",
        "session_token: token, storage_class: STANDARD_IA, path_style: true, traffic_limit: 1MiB",
        "proxy: 'user:pw@proxy:3128', ca_bundle: ca.pem, trust_environment: yes",
        "connect_timeout: 1s, read_timeout: 2s, progress_timeout: 3s",
        KEY="secret$key",
    )
    http = HttpSettings(
        "https://bj.bcebos.com", "http://user:pw@proxy:3128", str(tmp_path / "ca.pem"), True, 1.0, 2.0, 3.0
    )
    assert (
        BosSettings(http, "photos", True, "STANDARD_IA", MIB, KeySettings("id", "secret$key", "token")) == bos
    )


def test_a_bos_region_is_an_endpoint(tmp_path: Path) -> None:
    """A region stands for the address of its native endpoint."""
    bos = load_store(tmp_path, "type: bos, bucket: abc, region: gz, access_key_id: a, secret_access_key: b")
    assert bos.http.endpoint == "https://gz.bcebos.com"


def test_an_s3_store(tmp_path: Path) -> None:
    """All keys of a store of type s3, with its keys in files below the credentials directory."""
    for name in ("id", "key", "token"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o400)
    s3 = load_store(
        tmp_path,
        "type: s3, bucket: Old_Bucket, endpoint: 'http://127.0.0.1:9000/', region: eu-west-1",
        "path_style: false, storage_class: GLACIER, integrity: crc32",
        "access_key_file: '${CREDENTIALS_DIRECTORY}/id'",
        "secret_key_file: ./key, session_token_file: ~/token",
        CREDENTIALS_DIRECTORY=str(tmp_path),
    )
    keys = KeySettings(
        access_key_file=str(tmp_path / "id"),
        secret_key_file=str(tmp_path / "key"),
        session_token_file=str(tmp_path / "token"),
    )
    http = HttpSettings("http://127.0.0.1:9000")
    assert S3Settings(http, "Old_Bucket", "eu-west-1", False, "GLACIER", "crc32", keys) == s3


def test_what_a_bucket_demands_is_set(tmp_path: Path) -> None:
    """Encryption, ACL, payer and retention, which some buckets' policies want to see with every object."""
    s3 = load_store(
        tmp_path,
        "type: s3, bucket: abc, sse: 'aws:kms', kms_key_id: alias/a, acl: bucket-owner-full-control",
        "request_payer: requester, object_lock: COMPLIANCE 1d12h",
    )
    assert (s3.sse, s3.kms_key_id, s3.acl, s3.request_payer) == (
        "aws:kms",
        "alias/a",
        "bucket-owner-full-control",
        True,
    )
    assert (s3.lock_mode, s3.lock_seconds) == ("COMPLIANCE", 1.5 * 86_400)


@pytest.mark.parametrize(
    ("given", "environment", "region"),
    [
        ("", {}, "us-east-1"),
        ("", {"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ("", {"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ("region: eu-west-3", {"AWS_REGION": "eu-west-1"}, "eu-west-3"),
        ("endpoint: s3.amazonaws.com", {"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ("endpoint: s3.eu-north-1.amazonaws.com", {"AWS_REGION": "eu-west-1"}, "eu-north-1"),
        ("endpoint: minio.lan", {"AWS_REGION": "eu-west-1"}, "us-east-1"),
        ("endpoint: s3.gz.bcebos.com", {"AWS_REGION": "eu-west-1"}, "gz"),
        ("endpoint: photos.s3.gz.bcebos.com", {}, "gz"),
        ("endpoint: s3.gz.bcebos.com, region: bj", {}, "bj"),
    ],
)
def test_the_region_is_given_or_follows_from_the_place(
    given: str, environment: dict[str, str], region: str, tmp_path: Path
) -> None:
    """AWS's own tools name it in the environment; BOS's endpoint has it in its name."""
    s3 = load_store(tmp_path, "type: s3, bucket: photos", *filter(None, [given]), **environment)
    assert region == s3.region


def test_a_region_of_the_environment_is_checked(tmp_path: Path) -> None:
    """Where the file names none, and without showing it."""
    with pytest.raises(ConfigError) as caught:
        load_store(tmp_path, "type: s3, bucket: photos", AWS_REGION="a region!")
    (problem,) = said(caught.value)
    assert problem.startswith(f"{tmp_path}/config.yaml:3: stores.s.region: found `AWS_REGION` (its value is")


@pytest.mark.parametrize("scheme_and_port", [("https", 443), ("http", 80)])
def test_a_port_that_is_the_schemes_own_makes_no_other_store(
    scheme_and_port: tuple[str, int], tmp_path: Path
) -> None:
    """What was recorded for the address without it still counts."""
    scheme, port = scheme_and_port
    keys = "access_key_id: a, secret_access_key: b"
    bos = load_store(tmp_path, f"type: bos, bucket: abc, endpoint: '{scheme}://bj.bcebos.com:{port}', {keys}")
    assert bos.http.endpoint == f"{scheme}://bj.bcebos.com"


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("us-gov-west-1", "https://s3.us-gov-west-1.amazonaws.com"),
        ("us-iso-east-1", "https://s3.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "https://s3.us-isob-east-1.sc2s.sgov.gov"),
        ("eusc-de-east-1", "https://s3.eusc-de-east-1.amazonaws.eu"),
        ("us-east-1", "https://s3.us-east-1.amazonaws.com"),
        ("eu-central-1", "https://s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_an_s3_store_without_endpoint_is_at_amazon(region: str, endpoint: str, tmp_path: Path) -> None:
    """The region says where; without keys, the standard chain is asked."""
    s3 = load_store(tmp_path, f"type: s3, bucket: abc, region: {region}")
    assert S3Settings(HttpSettings(endpoint), "abc", region) == s3


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        ("http://minio.lan:9000", True),
        ("http://127.0.0.1:9000", False),
        ("http://localhost:9000", False),
        ("http://s3.localhost", False),
        ("http://[::1]:9000", False),
        ("http://localhost.example.org", True),
        ("https://minio.lan", False),
        ("minio.lan", False),
    ],
)
def test_plain_http_to_another_machine_is_warned_of(endpoint: str, warned: bool, tmp_path: Path) -> None:
    """It may be intended in a closed network, so it is a warning, with its line."""
    text = f"{FOR_STORE}  s:\n    type: s3\n    bucket: abc\n    endpoint: '{endpoint}'"
    warning = (
        f"{tmp_path}/config.yaml:6: stores.s.endpoint: `{endpoint}` is plain http: "
        "use https outside a trusted network"
    )
    assert ((warning,) if warned else ()) == load(tmp_path, text).warnings


def test_a_key_that_every_user_can_read_is_warned_of(tmp_path: Path) -> None:
    """A key file, or the configuration with a key in it, that others can read works with a warning."""
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o644)
    text = (
        "sources: [{name: a, path: ./w, store: s}]\nstores:\n  s: {type: s3, bucket: abc, access_key_id: id,"
    )
    file = tmp_path / "config.yaml"
    warned = load(tmp_path, f"{text} secret_key_file: ./key}}").warnings
    expected = (
        f"{file}:3: stores.s.secret_key_file: `./key` can be read by every user of this machine "
        "(mode 0644): run `chmod 600` on it"
    )
    assert (expected,) == warned
    load(tmp_path, f"{text} secret_access_key: hidden}}")
    file.chmod(0o644)
    expected = (
        f"{file}:3: stores.s.secret_access_key: text that is not shown stands in a file that every user "
        "of this machine can read: run `chmod 600` on it"
    )
    assert (expected,) == config.load(str(file), {"HOME": str(tmp_path)}).warnings
    file.write_text(f"{text} secret_access_key: '${{KEY}}'}}")
    assert config.load(str(file), {"HOME": str(tmp_path), "KEY": "hidden"}).warnings == ()


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    """Settings can be logged: neither keys nor a proxy's password are shown."""
    text = f"{FOR_STORE}  s: {{type: s3, bucket: abc, access_key_id: hidden1,"
    text += " secret_access_key: hidden2, session_token: '${TOKEN}', proxy: 'http://me:hidden4@proxy'}"
    settings = load(tmp_path, text, TOKEN="hidden3")
    assert "hidden" not in repr(settings)
    draft = S3Entry(secret_access_key="hidden", proxy="http://me:hidden@proxy")
    assert "hidden" not in repr(draft)
    assert isinstance(settings.stores["s"], S3Settings)
    assert settings.stores["s"].keys.session_token == "hidden3"


def test_keys_are_known_as_secrets_and_credentials() -> None:
    """What is declared secret in an entry is never shown, and all that only opens a store can be forgiven."""
    secret = {"access_key_id", "secret_access_key", "session_token"}
    assert secret | {"proxy"} == SECRET_KEYS
    assert secret | {"access_key_file", "secret_key_file", "session_token_file"} == CREDENTIAL_KEYS

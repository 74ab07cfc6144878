"""What a reload changes, in words."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.config import values
from syncd.config.load import LogSettings, Settings
from syncd.config.reader import SECTIONS
from syncd.core.model import PatternPlaces, Source, TransferPolicy
from syncd.daemon import changes
from syncd.storage.settings import DirSettings
from tests.unit.config.loading import load

DOCS, MORE = Source("docs", "/w/docs", "nas"), Source("more", "/w/more", "nas")
OLD = Settings("/c.yaml", "/state", {"nas": DirSettings("/mnt/nas")}, (DOCS, MORE), TransferPolicy())


def test_every_difference_has_a_line_that_names_its_keys() -> None:
    """And no value, which may be secret; where patterns are written is no difference."""
    new = replace(
        OLD,
        sources=(
            replace(
                DOCS,
                settle_seconds=9.0,
                exclude=("secret",),
                places=PatternPlaces({("exclude", "secret"): "c:1"}),
            ),
            replace(MORE, name="other"),
        ),
        stores={"nas": DirSettings("/mnt/other"), "second": DirSettings("/mnt/second")},
        transfer=TransferPolicy(concurrency=3),
        log=LogSettings("debug"),
        max_repair=(1, 0.5),
    )
    assert changes.between(OLD, new) == [
        "source more: removed",
        "source other: added",
        "source docs: changed: exclude, settle",
        "store second: added",
        "store nas: changed: path",
        "transfer: concurrency",
        "log: level",
        "max_repair",
    ]
    assert (
        changes.between(
            OLD, replace(OLD, sources=(replace(DOCS, places=PatternPlaces({("a", "b"): "c"})), MORE))
        )
        == []
    )


HTTPS = {"access_key_id": "a", "secret_access_key": "s", "bucket": "abc"}
BASE: dict[str, Any] = {
    "stores": {
        "dir": {"type": "dir", "path": "/mnt/nas"},
        "s3": {"type": "s3", "endpoint": "https://a.example", **HTTPS},
        "bos": {"type": "bos", "endpoint": "https://bj.bcebos.com", **HTTPS},
    },
    "sources": [{"name": "docs", "path": "/w/docs", "store": "s3"}],
    "http": {"address": "127.0.0.1:1"},
    "transfer": {},
    "log": {},
}
OF_HTTP = {
    "bucket": "xyz", "path_style": True, "access_key_id": "b", "secret_access_key": "t", "session_token": "t",
    "proxy": "http://p:1", "trust_environment": True, "connect_timeout": "9s", "read_timeout": "9s",
    "progress_timeout": "9s", "storage_class": "COLD",
}  # fmt: skip
OTHERS: dict[str, tuple[tuple[str | int, ...], str, dict[str, Any]]] = {
    "a source": (("sources", 0), "source docs: changed: ", {
        "path": "/elsewhere", "store": "bos", "prefix": "p/", "include": ["*"], "exclude": ["*"],
        "ignore_case": True, "exclude_temporary": True, "exclude_if_present": ["TAG"], "max_size": "1k",
        "min_age": "1s", "one_file_system": True, "attributes": "posix", "attribute_changes": "copy",
        "symlinks": "record", "empty_directories": "all", "objects": [{"match": "*", "cache_control": "no"}],
        "settle": "9s", "append_interval": "9s", "boundary": "byte", "rescan_interval": "9s",
        "on_delete": "delete", "max_delete": "3%", "adopt": "stamp", "adopt_by_crc32": True,
    }),
    "a store of type `dir`": (("stores", "dir"), "store dir: changed: ", {"path": "/other", "create": True}),
    "a store of type `s3`": (("stores", "s3"), "store s3: changed: ", OF_HTTP | {
        "endpoint": "https://b.example", "region": "r", "integrity": "md5", "sse": "AES256", "acl": "private",
        "request_payer": "requester", "object_lock": "GOVERNANCE 30d",
    }),
    "a store of type `bos`": (("stores", "bos"), "store bos: changed: ", OF_HTTP | {
        "endpoint": "https://gz.bcebos.com", "traffic_limit": "1MiB",
    }),
    "`transfer`": (("transfer",), "transfer: ", {
        "concurrency": 3, "part_size": "16MiB", "bandwidth_limit": "1M", "max_attempts": 3,
        "memory_limit": "64MiB",
    }),
    "`log`": (("log",), "log: ", {"level": "debug", "format": "json"}),
    "`http`": (("http",), "http: ", {"address": "[::1]:2", "names": ["a"]}),
    "the top level": ((), "", {
        "stop": "drain", "stop_timeout": "9s", "audit_interval": "9h", "max_repair": 3,
    }),
}  # fmt: skip
"""For each section: where it is, how its lines begin, and values that are not those of `BASE`."""
NOT_TRIED = {
    *("name", "type", "match", "sources", "stores", "state_dir", "transfer", "log", "http"),  # told otherwise
    *("mode", "append"),  # the first is told as the second
    *("ca_bundle", "access_key_file", "secret_key_file", "session_token_file", "token_file"),  # files
    *("kms_key_id", "custom_domain", "region"),  # only with another; of BOS, it is told as the endpoint
}


@pytest.mark.parametrize("section", OTHERS)
def test_each_key_is_named_as_the_configuration_names_it(section: str, tmp_path: Path) -> None:
    """Whatever its setting is called inside."""
    path, begin, others = OTHERS[section]
    assert values.keys(SECTIONS[section]).keys() - others.keys() <= NOT_TRIED
    old = load(tmp_path, json.dumps(BASE))
    for key, value in others.items():
        changed = deepcopy(BASE)
        at = changed
        for step in path:
            at = at[step]
        at[key] = value
        assert changes.between(old, load(tmp_path, json.dumps(changed))) == [f"{begin}{key}"]

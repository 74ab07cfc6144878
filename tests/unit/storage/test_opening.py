"""Settings of each kind open a store that shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.errors import StoreUnavailable
from syncd.storage.opening import open_store
from syncd.storage.retry import Retries
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings, KeySettings, S3Settings
from tests.unit.storage.http.store_rig import SETTINGS, context


def test_settings_of_each_kind_open_a_store(tmp_path: Path) -> None:
    """Without a connection being made."""
    http = HttpSettings("https://127.0.0.1:1")
    settings = (
        SETTINGS,
        BosSettings(http, "photos", path_style=True, keys=KeySettings("a", "b")),
        DirSettings(str(tmp_path)),
    )
    for one in settings:
        found = open_store(one, context())
        assert found.store_id
        assert found.limits.max_parts > 0
        found.close()


def test_opening_shows_no_secret() -> None:
    """Neither in the identity nor in any error."""
    http = HttpSettings("http://127.0.0.1:1", proxy="http://user:hunter2@127.0.0.1:1")
    found = open_store(
        S3Settings(http, "photos", keys=KeySettings("AKIDX", "s3cr3t")), context(retries=Retries(max_tries=1))
    )
    with pytest.raises(StoreUnavailable) as caught:
        found.head_object("k")
    text = found.store_id + repr(found) + str(caught.value) + repr(caught.value)
    assert [word for word in ("AKIDX", "s3cr3t", "hunter2") if word in text] == []
    found.close()

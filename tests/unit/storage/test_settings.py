"""Settings hold secrets, and never show them."""

from __future__ import annotations

from syncd.storage.settings import BosSettings, HttpSettings, KeySettings, S3Settings


def test_no_secret_of_the_settings_is_shown() -> None:
    """Neither keys nor the password of a proxy, however deep in the settings of a store."""
    http = HttpSettings("https://h", proxy="http://user:hunter2@proxy")
    keys = KeySettings("AKIDX", "s3cr3t", "t0ken")
    shown = repr(S3Settings(http, "photos", keys=keys)) + repr(BosSettings(http, "photos", keys=keys))
    assert "photos" in shown
    assert [word for word in ("hunter2", "AKIDX", "s3cr3t", "t0ken") if word in shown] == []

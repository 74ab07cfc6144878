"""What a reload changes, in words."""

from __future__ import annotations

from msgspec.structs import replace

from syncd.config.load import LogSettings, Settings
from syncd.core.model import PatternPlaces, Source, TransferPolicy
from syncd.daemon import changes
from syncd.storage.settings import DirSettings

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
        "source docs: changed: exclude, settle_seconds",
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

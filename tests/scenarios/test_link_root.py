"""A root that is given as a symbolic link, and the link is turned."""

from __future__ import annotations

import os
from pathlib import Path

from syncd.config import load as config
from syncd.sources.root import RootGuard
from tests.support.rig import Rig


def test_a_link_that_leads_elsewhere_is_not_followed_silently(tmp_path: Path) -> None:
    """The source stands still and says why, until the link leads back or the configuration is read again."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "mirror").mkdir()
    link = tmp_path / "link"
    link.symlink_to("one")
    written = tmp_path / "config.yaml"
    written.write_text(
        "state_dir: ./state\n"
        "stores: {mirror: {type: dir, path: ./mirror}}\n"
        "sources: [{name: docs, path: ./link, store: mirror}]\n"
    )
    (source,) = config.load(str(written), {}).sources
    rig = Rig(tmp_path)
    guard = RootGuard(source, rig.state)
    assert source.root == str(tmp_path.resolve() / "one")
    assert guard.look()[1] == ""

    os.unlink(link)
    link.symlink_to("two")
    identity, doubt = guard.look()
    assert identity is None
    assert "link" in doubt
    (again,) = config.load(str(written), {}).sources
    assert again.root == str(tmp_path.resolve() / "two")

    os.unlink(link)
    link.symlink_to("one")
    assert guard.look()[1] == ""
    rig.close()

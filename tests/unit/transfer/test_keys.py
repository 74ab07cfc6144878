"""Which object a file has, and who may change it."""

from __future__ import annotations

import os
from pathlib import Path

from syncd.core.model import Attributes, OnDelete
from syncd.core.plan import Copy, Nothing, Refresh, Upload
from tests.support.rig import Rig


def test_an_object_that_belongs_to_another_file_by_now_is_not_deleted(tmp_path: Path) -> None:
    """After a change of prefix two files may meet at one key: the one that goes must not take the other's."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.configure(prefix="")
    gone = rig.write("a/x", b"old")
    rig.sync("a/x")
    rig.configure(prefix="a/")
    rig.write("x", b"new")
    rig.sync("x")
    (rig.folder / "a" / "x").unlink()

    rig.sync("a/x", delete_allowed=True)

    assert rig.fake.objects["a/x"].data == b"new"
    assert rig.state.recorded(gone) is None
    rig.close()


def test_a_link_is_sent_as_where_it_leads_to(rig: Rig) -> None:
    """Without a look at what is there; it is sent again when it leads elsewhere, and only then."""
    rig.configure(records_links=True, keeps_attributes=True)
    link = rig.folder / "link"
    link.symlink_to("/etc/hostname, or wherever")  # longer than a part of this rig
    assert rig.engine.plan(rig.ref("link")) == (Upload("new"), 26)
    assert rig.sync("link").action == Upload("new")
    found = rig.fake.objects["p/link.rclonelink"]
    assert (found.data, found.meta.is_link) == (b"/etc/hostname, or wherever", True)
    assert (found.meta.attributes or Attributes()).uid == os.geteuid()
    rig.fake.reset_counters()
    assert isinstance(rig.sync("link").action, Nothing | Refresh)
    assert rig.fake.calls["put_object"] == 0
    link.unlink()
    link.symlink_to("elsewhere")
    assert rig.sync("link").action == Upload("content changed")
    assert rig.fake.objects["p/link.rclonelink"].data == b"elsewhere"
    assert list(rig.fake.objects) == ["p/link.rclonelink"]


def test_another_destination_gets_the_object_again(rig: Rig) -> None:
    """A prefix that changed in the configuration moves the objects: copied, not sent."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    rig.configure(prefix="q/")

    outcome = rig.sync("a.txt", event=False)

    assert isinstance(outcome.action, Copy)
    assert rig.fake.objects["q/a.txt"].data == b"hello"

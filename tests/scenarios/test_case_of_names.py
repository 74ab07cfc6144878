"""A source on a file system that ignores case, where a name changed in case alone: FAT, NTFS, SMB, ext4 +F.

The old name still leads to the file. Without a look at its spelling its object would never go.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.model import OnDelete
from syncd.core.patterns import Rules
from syncd.core.plan import Nothing
from syncd.sources.scan import compare
from tests.scenarios.test_out_of_sight import Told
from tests.support.odd_file_system import Oddities, odd
from tests.support.rig import Rig


@pytest.mark.parametrize(
    ("path", "renamed", "now"),
    [("a.txt", "a.txt", "A.txt"), ("Dir/x", "Dir", "dir"), ("Dir/x", "Dir/x", "Dir/X")],
)
def test_a_name_that_changed_in_case_alone_is_another(
    tmp_path: Path, path: str, renamed: str, now: str
) -> None:
    """To the scan, and to a step for the file, which deletes its object."""
    with odd(tmp_path / "disk", Oddities(case=True)) as folder:
        rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
        source = replace(rig.source, root=str(folder))
        rig.know(source=source)
        for name in (path, "beside"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"content")
            assert not isinstance(rig.sync(name).action, Nothing)
        back = tmp_path / "disk-back"
        (back / renamed).rename(back / now)
        told = Told()

        compare.scan(
            source, Rules((), ()), rig.state, told, should_stop=lambda: False, store_id=rig.store.store_id
        )
        rig.sync(path.replace(renamed, now))
        rig.engine.sync(rig.ref(path), event=True, delete_allowed=True)

        assert told.absent_paths == {path}
        assert set(rig.fake.objects) == {f"p/{path.replace(renamed, now)}", "p/beside"}
        rig.close()

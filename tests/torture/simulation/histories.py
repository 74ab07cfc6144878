"""Histories that once ended badly, as the simulation found and shortened them."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.core.model import OnDelete
from tests.torture.simulation.moves import Move
from tests.torture.simulation.world import Terms


@dataclass(frozen=True)
class History:
    """A script, and the rule that it keeps."""

    rule: str
    terms: Terms
    script: tuple[Move, ...]


HISTORIES = (
    History(
        "What waits in the state is taken up again when a root that was away is back: else an unfinished"
        " upload of a file that is gone stays until the next start.",
        Terms(seed=6, granularity_ns=1_000_000_000),
        (
            Move("save_by_rename", ("d/a", 9, 11492147, "soon"), 0.0),
            Move("die", (13, True), 0.6),
            Move("save_by_rename", ("b", 1, 20519025, "soon"), 40.0),
            Move("store_goes", ("unreachable",), 40.0),
            Move("lie_in_wait", ("list", 9, Move("rename", ("d/a", "a", "late"))), 40.0),
            Move("delete", ("b", "soon"), 7.0),
            Move("die", (9, False), 2.5),
            Move("append", ("d/a", 24, 69737098, "soon"), 40.0),
            Move("unmount", (), 2.5),
            Move("rename_directory", ("d/e", "d", "twice"), 400.0),
        ),
    ),
    History(
        "A person who accepts a root on another device accepts that what is not there is gone: else it counts"
        " as not mounted from then on, and no scan is ever complete.",
        Terms(seed=30, on_delete=OnDelete.DELETE, page_size=2, completes_again=True),
        (
            Move("save_by_rename", ("d/a", 7, 73734695, "twice"), 0.0),
            Move("append", ("a", 24, 8407177, "twice"), 7.0),
            Move("mount_again", (True, False), 2.5),
            Move("exchange_file_and_directory", ("d", 53766859, "soon"), 40.0),
        ),
    ),
    History(
        "A scan whose result cannot be noted, since the disk of the state is full, is not made again every"
        " two seconds.",
        Terms(seed=37, page_size=2),
        (
            Move("die", (28, True), 2.5),
            Move("store_goes", ("unreachable",), 0.0),
            Move("fill_disk", (True,), 400.0),
            Move("fill_disk", (True,), 400.0),
            Move("make_no_file", ("d/a", "symlink", "late"), 400.0),
        ),
    ),
    History(
        "An object that was deleted, which could not be noted, is sent when its file comes back as it was.",
        Terms(seed=320, on_delete=OnDelete.DELETE, page_size=1),
        (
            Move("save", ("f", 0, 0, "soon"), 0.0),
            Move("fill_disk", (True,), 2.5),
            Move("restart", (), 0.6),
            Move("delete", ("f", "soon"), 2.5),
            Move("save_by_rename", ("d/a", 37, 2766894, "lost"), 2.5),
            Move("append", ("d/a", 1, 33796723, "soon"), 40.0),
            Move("save_by_rename", ("f", 0, 32106311, "soon"), 0.1),
        ),
    ),
    History(
        "A root that cannot be opened for a moment does not make syncd forget what it was to look at.",
        Terms(seed=368, on_delete=OnDelete.DELETE, page_size=2),
        (
            Move("save", ("b", 37, 61410588, "twice"), 2.5),
            Move("store_goes", ("overloaded",), 0.1),
            Move("mount_again", (True, False), 0.1),
            Move("save", ("d/a", 24, 8296142, "soon"), 0.0),
            Move("delete", ("d/b", "late"), 7.0),
            Move("delete", ("d/a", "soon"), 400.0),
            Move("disk_error", ("open", 116, 1), 400.0),
        ),
    ),
    History(
        "What was begun on a disk whose device got another number counts as begun on that one: else an"
        " unfinished upload always hides that its file is gone, and its former object stays.",
        Terms(seed=2062, on_delete=OnDelete.DELETE, page_size=2, random_etags=True),
        (
            Move("save", ("d/a", 24, 72778273, "soon"), 40.0),
            Move("store_goes", ("hanging",), 0.6),
            Move("save", ("d/a", 24, 2, "twice"), 400.0),
            Move("mount_again", (True, True), 2.5),
            Move("exchange_file_and_directory", ("d", 23932346, "soon"), 0.0),
        ),
    ),
    History(
        "The directory below a disk that is away is not taken for the root because the disk, mounted again a"
        " moment later, holds our files: else the disk itself is in doubt from then on.",
        Terms(seed=2154, page_size=1),
        (
            Move("save_by_rename", ("d/a", 9, 2410171, "soon"), 2.5),
            Move("lie_in_wait", ("list", 12, Move("unmount")), 40.0),
            Move("mount_again", (False, True), 2.5),
            Move("overflow", (), 400.0),
            Move("lie_in_wait", ("fstat", 2, Move("mount_again", (False, True))), 40.0),
            Move("touch", ("f", "soon"), 7.0),
            Move("rewrite_while_it_is_read", ("d/a", 7, 30336328, "put_object", 1, "twice", True), 40.0),
            Move("rewrite_while_it_is_read", ("d/a", 7, 3150631, "stat", 1, "soon", False), 2.5),
        ),
    ),
    History(
        "A file whose keys are refused once after a long outage is tried again soon: only refusals count"
        " for the pauses of hours.",
        Terms(seed=198, granularity_ns=2_000_000_000, completes_again=True),
        (
            Move("store_goes", ("hanging",), 0.0),
            Move("save_by_rename", ("d/a", 37, 2, "soon"), 2.5),
            Move("restart", (), 400.0),
            Move("store_goes", ("refused",), 2.5),
            Move("rewrite_while_it_is_read", ("b", 7, 78182035, "after put_object", 1, "lost", True), 400.0),
        ),
    ),
    History(
        "An audit that is due waits, too, where the full disk of the state lets nothing go on: it does not go"
        " round and round.",
        Terms(
            seed=3780,
            granularity_ns=4_000_000,
            on_delete=OnDelete.KEEP,
            random_etags=True,
            completes_again=True,
            settle_seconds=0.3,
            audit_seconds=300.0,
        ),
        (
            Move("lose_object", ("a",), 400.0),
            Move("mount_again", (False, False), 40.0),
            Move("write_log", (23, 0, "soon"), 0.6),
            Move("lie_in_wait", ("read", 5, Move("empty", (), 0.0)), 400.0),
            Move("turn_policy", (), 0.1),
            Move("fill_disk", (True,), 0.0),
            Move(
                "rewrite_while_it_is_read",
                ("d/b", 0, 75675553, "after complete_multipart_upload", 1, "lost", True),
                40.0,
            ),
            Move("lie_in_wait", ("open", 12, Move("save", ("f", 7, 15498901, "lost"), 0.0)), 40.0),
        ),
    ),
)

"""Symbolic links that come back: none is followed, and none that appeared in between is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import FileUnwritable
from syncd.core.model import Attributes
from syncd.transfer.restore import links

FACTS = (1_600_000_000_123_456_789, Attributes())


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_link_replaces_the_one_that_was_found(directory: int) -> None:
    """Also where a restore died before it gave the new one its name."""
    os.symlink("old", "link", dir_fd=directory)
    os.symlink("left over", "draft", dir_fd=directory)
    found = links.look(directory, "link")
    links.make(directory, "link", "draft", b"new", found, FACTS)
    assert os.listdir(directory) == ["link"]
    assert links.look(directory, "link") == links.ExistingLink(b"new", FACTS[0])


@pytest.mark.parametrize("appeared", ["file", "another link", "nothing"])
def test_what_is_there_by_now_is_kept(directory: int, appeared: str) -> None:
    os.symlink("old", "link", dir_fd=directory)
    found = links.look(directory, "link")
    os.unlink("link", dir_fd=directory)
    if appeared == "file":
        os.close(os.open("link", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    elif appeared == "another link":
        os.symlink("other", "link", dir_fd=directory)
    names = os.listdir(directory)
    with pytest.raises(FileUnwritable):
        links.make(directory, "link", "draft", b"new", found, FACTS)
    assert os.listdir(directory) == names


def test_a_link_is_made_only_where_nothing_is(directory: int) -> None:
    links.make(directory, "link", "draft", b"new", None, FACTS)
    with pytest.raises(FileExistsError):
        links.make(directory, "link", "draft", b"other", None, FACTS)
    assert links.look(directory, "link") == links.ExistingLink(b"new", FACTS[0])

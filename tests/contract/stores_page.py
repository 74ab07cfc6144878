"""Writes into docs/stores.md what the servers do otherwise: ``python -m tests.contract.stores_page``.

The table is `QUIRKS` of `tests.contract.subjects`, which the contract suite holds against the servers.
"""

from __future__ import annotations

from pathlib import Path

from tests.contract.subjects import QUIRKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stores.md"
BEGIN, END = "<!-- differences: begin -->\n", "<!-- differences: end -->\n"
SERVERS = {
    "ceph": "Ceph object gateway 16.2",
    "swift": "OpenStack Swift 2.30 with s3api",
    "rclone": "rclone serve s3",
    "moto": "moto server 5",
}


def differences() -> str:
    """The lists of the page, one for each server."""
    lists = []
    for name, title in SERVERS.items():
        lines = [f"- {what}: {why}" for what, why in sorted(QUIRKS[name].items())]
        lists.append(f"**{title}**\n\n" + "\n".join(lines) + "\n")
    return "\n" + "\n".join(lists) + "\n"


def page(text: str) -> str:
    """The page with the lists of now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + differences() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""Writes into docs/stores.md what the servers can and do otherwise: ``python -m tests.contract.stores_page``.

Both come from `QUIRKS` of `tests.contract.subjects`, which the contract suite holds against the servers.
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
    "nanio": "nanio 0.1.7",
    "localbucket": "localbucket 1.2",
    "localstack": "LocalStack 4.12",
    "s3rver": "s3rver 3.7",
    "fauxqs": "fauxqs 1.9",
}
LESSEN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "put": ((), ("refuses ", "no object beside a directory")),
    "get a range": ((), ("mistakes a range that ends at the first byte", "refuses ranges beyond the end")),
    "keep metadata": (("keeps no metadata",), ("forgets headers",)),
    "keep tags": (("has no tags", "keeps no metadata"), ("loses tags of ",)),
    "list objects": ((), ("lists ", "skips keys behind another")),
    "upload parts": (
        (),
        (
            "no uploads of ",
            "begins uploads of ",
            "refuses a part that is sent again",
            "refuses gaps",
            "forgets an upload whose complete it refused",
            "changes the ETag of joined objects",
            "cannot say gone ",
            "dies of a part that is not there",
        ),
    ),
    "list parts": (("has no list of parts",), ()),
    "list uploads": (("has no list of uploads",), ("hides uploads of ",)),
    "abort": (("has no abort",), ()),
    "copy": (
        (),
        (
            "does not copy from ",
            "ignores conditions of copies",
            "copies metadata along",
            "knows joined objects by another ETag",
        ),
    ),
    "copy parts": (("does not copy parts",), ("ignores conditions of part copies",)),
    "replace on a condition": (("has no conditions",), ()),
    "check signatures": (("accepts any secret",), ()),
    "check contents": (("does not check bodies",), ()),
}
"""What a server does, and which quirks (or beginnings of their names) forbid it or lessen it."""
HARMLESS = ("takes longer keys", "takes small parts", "completes again")


def cell(server: str, row: str) -> str:
    """``yes``, ``partly`` or ``no``."""
    forbid, lessen = LESSEN[row]
    quirks = QUIRKS[server]
    if any(quirk.startswith(forbid) for quirk in quirks):
        return "no"
    return "partly" if any(quirk.startswith(lessen) for quirk in quirks) else "yes"


def matrix() -> str:
    """The table of servers and what they do."""
    lines = [
        "| | " + " | ".join(SERVERS) + " |",
        "|---|" + "---|" * len(SERVERS),
        *(f"| {row} | " + " | ".join(cell(server, row) for server in SERVERS) + " |" for row in LESSEN),
    ]
    return "\n".join(lines) + "\n"


def differences() -> str:
    """The lists of the page, one for each server."""
    lists = []
    for name, title in SERVERS.items():
        lines = [f"- {what}: {why}" for what, why in sorted(QUIRKS[name].items())]
        lists.append(f"**{title}**\n\n" + "\n".join(lines) + "\n")
    return "\n" + matrix() + "\n" + "\n".join(lists) + "\n"


def page(text: str) -> str:
    """The page with the lists of now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + differences() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

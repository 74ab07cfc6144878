"""`syncd adopt`, on a directory into which files were copied by hand."""

from __future__ import annotations

import json

from tests.unit.cli.home import Home


def test_it_says_how_much_is_known_with_a_daemon_and_without(home: Home) -> None:
    """And records it, so that the next pass sends only the rest; a source that is unknown is a mistake."""
    for name, content in (("a", "same"), ("b", "this"), ("c", "new")):
        (home.watched / name).write_text(content)
    (home.mirror / "a").write_text("same")
    (home.mirror / "b").write_text("that")
    assert home.run("adopt", "other").exit_code == 2
    shown = home.run("adopt", "--dry-run")
    counts = "1 file (4 B) known, 1 file (3 B) to send, 1 file (4 B) with other content"
    counts += "; 0 recorded before, 0 failed"
    assert (shown.exit_code, shown.stdout) == (0, f"differs  docs:b\ndocs: {counts}\n")
    assert json.loads(home.run("adopt", "docs", "--json").stdout)["sources"]["docs"]["files"]["known"] == 1
    assert "; 1 recorded before" in home.run("adopt").stdout
    sent = home.run("sync").stdout
    assert "2 uploaded" in sent
    assert "7 bytes sent" in sent

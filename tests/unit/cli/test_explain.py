"""`syncd explain`: every file has an answer, also the one that is excluded and the one that is not there."""

from __future__ import annotations

import json

from tests.unit.cli.home import Home


def test_the_rule_is_named_with_its_line(home: Home) -> None:
    """Also for a file that is not there; and if only the case differs, that is said."""
    home.content["sources"][0] |= {"include": ["*.jpg"], "exclude": ["private/"]}
    (home.watched / "a.JPG").write_text("x")
    shown = home.run("explain", str(home.watched / "a.JPG")).stdout.splitlines()
    assert shown[0].split()[0] == "excluded"
    assert "rule       left out: no pattern of `include` matches (`*.jpg` differs only in case)" in shown[3]
    below = json.loads(home.run("explain", str(home.watched / "private/d/b.jpg"), "--json").stdout)
    lines = (home.root / "config.yaml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "private/" in text)
    assert below["state"] == "excluded"
    assert below["rule"] | {"text": ""} == {
        "wanted": False,
        "list": "exclude",
        "pattern": "private/",
        "matches": "private",
        "differs_only_in_case": None,
        "where": f"{home.root}/config.yaml:{line}",
        "text": "",
    }


def test_what_is_recorded_and_what_would_be_done(home: Home) -> None:
    """Every line has a heading; what is not known has none, or says so."""
    file = home.watched / "a"
    file.write_text("x")
    assert "next       it is sent: new" in home.run("explain", str(file)).stdout
    home.run("sync")
    shown = home.run("explain", str(file)).stdout
    for line in (
        "stored     docs: as a since",
        "key        a in store mirror",
        "recorded   a since",
        "disk       1 B, modified",
        "rule       included: there are no patterns",
        "next       nothing",
    ):
        assert f"\n{line}" in f"\n{shown}"
    file.write_text("other")
    assert "compared with the record, and sent if it differs: size changed" in (
        home.run("explain", str(file)).stdout
    )


def test_rules_beside_the_patterns_are_named_with_their_limit_and_line(home: Home) -> None:
    """And a pass counts each by its reason, and is done: what rules leave out is no failure."""
    home.content["sources"][0] |= {
        "exclude_temporary": True,
        "exclude_if_present": [".nobackup"],
        "max_size": "1KiB",
        "min_age": "1h",
    }
    (home.watched / "cache").mkdir()
    for name, size in (("a.tmp", 1), ("cache/.nobackup", 0), ("cache/a", 1), ("large", 1025), ("young", 1)):
        (home.watched / name).write_bytes(bytes(size))
    for name, reason in (
        ("a.tmp", "`*.tmp` of `exclude_temporary` matches"),
        ("cache/a", "`exclude_if_present` names `.nobackup`, which is in cache"),
        ("cache", "`exclude_if_present` names `.nobackup`, which is in cache"),
        ("large", "it is larger than `max_size`, 1.0 KiB"),
    ):
        told = json.loads(home.run("explain", str(home.watched / name), "--json").stdout)
        assert (told["state"], told["reason"]) == ("excluded", reason)
        line = int(told["rule"]["where"].rpartition(":")[2])
        shown = (home.root / "config.yaml").read_text().splitlines()[line - 1]
        assert told["rule"]["list"] in shown or told["rule"]["pattern"] in shown
    assert "settling" in home.run("explain", str(home.watched / "young")).stdout
    done = home.run("sync")
    assert done.exit_code == 0, done.output
    skipped = done.stdout.partition("skipped: ")[2].strip().split(", ")
    reasons = (
        "directory with .nobackup",
        "temporary file",
        "file over max_size",
        "file younger than min_age",
    )
    assert sorted(skipped) == sorted(f"1 {reason}" for reason in reasons)
    assert "nothing to do" in done.stdout
    assert "file over max_size" in home.run("status").stdout
    assert home.run("sync", "--dry-run").exit_code == 0

"""The documents are true where a machine can tell: links, paths, commands, options and examples exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support import errors_page

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    path for folder in (".", "docs", "bench", "tests") for path in (PROJECT / folder).glob("*.md")
)


def test_the_page_of_errors_is_that_of_the_source() -> None:
    """After a change: python -m tests.support.errors_page > docs/errors.md."""
    assert (PROJECT / "docs" / "errors.md").read_text(encoding="utf-8") == errors_page.page()


def test_every_error_says_what_to_do() -> None:
    """Or that syncd goes on by itself, where the user has to do nothing."""
    assert [each.text for each in errors_page.sentences() if not each.hint.strip()] == []


every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))


def _text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def _anchors(text: str) -> set[str]:
    """The names by which a link reaches the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    """The target of every relative link exists, and so does the heading that it names."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        page = path.parent / name if name else path
        if not page.exists() or (anchor and anchor not in _anchors(page.read_text(encoding="utf-8"))):
            broken.append(target)

    assert broken == []


@every_document
def test_paths_exist(path: Path) -> None:
    """Every path of the project that a document names is there."""
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./~-])(?:syncd|tests|docs|bench|systemd|\.ci)/[\w./@-]*", text)

    assert [
        name for name in named if "/a/" not in name and not (PROJECT / name.rstrip(".")).exists()
    ] == []  # `syncd/a/b.py` stands for any module


# ---- commands ---------------------------------------------------------------------------------------------


@cache
@cache
def _help(*command: str) -> str:
    shown = subprocess.run(
        [sys.executable, "-m", "syncd", *command, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return shown.stdout


@cache
def _commands() -> set[str]:
    return set(re.findall(r"^  ([a-z][a-z-]*)", _help().partition("Commands:")[2], re.MULTILINE))


def _code(text: str) -> Iterator[str]:
    """The lines of shell blocks without their comments, and the code spans of the prose."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (re.sub(r"(^|\s)#.*", "", line) for line in block.splitlines())
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose))


@every_document
def test_commands_and_options_exist(path: Path) -> None:
    """Each `syncd COMMAND --option` that a document names is one that syncd has."""
    unknown = []
    for code in _code(path.read_text(encoding="utf-8")):
        for command, arguments in re.findall(r"(?:^|[ /])syncd ([a-z][a-z-]*)([^&|;]*)", code):
            options = re.findall(r"(?<!\S)--?[a-z][a-z-]*", arguments)
            if command not in _commands():
                unknown.append(f"syncd {command}")
            else:
                known = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", _help(command)))
                unknown += [f"syncd {command} {option}" for option in options if option not in known]

    assert unknown == []


def test_readme_lists_every_command() -> None:
    """The table of commands in the README has a row for each."""
    rows = re.findall(r"^\| `syncd ([a-z-]+)", _text("README.md"), re.MULTILINE)

    assert sorted(rows) == sorted(_commands())


def test_readme_tests_as_ci_does() -> None:
    """The README's way to run the tests is the one that has to pass."""
    shown = _text("README.md").partition("## Test it")[2].partition("```sh\n")[2].partition("```")[0]
    run = _text(".ci/run").replace('"$venv/bin/python" -m pip', "pip").replace('"$venv/bin/python"', "python")
    install, test = shown.splitlines()

    assert run.splitlines()[-1] == test == "python -m pytest"
    assert install == "pip install -e '.[test]'"
    assert re.search(r"^pip install .*-e '\.\[test\]'$", run, re.MULTILINE)


# ---- examples ---------------------------------------------------------------------------------------------


def _examples() -> Iterator[tuple[str, str]]:
    """Every configuration in the documents: YAML blocks, and files that a shell block writes."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        found += re.findall(r"<<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
        whole = [each for each in found if "stores:" in each and "sources:" in each]
        yield from ((f"{path.name} {number}", each) for number, each in enumerate(whole, 1))


EXAMPLES = dict(_examples())


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_a_valid_configuration(name: str, tmp_path: Path) -> None:
    """`syncd check --config-only` has nothing to say about it, given the keys that it names."""
    example = EXAMPLES[name]
    (tmp_path / "syncd.yaml").write_text(example, encoding="utf-8")
    (tmp_path / "keys").mkdir()
    for key in ("id", "secret"):
        (tmp_path / "keys" / key).write_text("0123456789", encoding="utf-8")
        (tmp_path / "keys" / key).chmod(0o600)
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "0123456789")
    checked = subprocess.run(
        [sys.executable, "-m", "syncd", "check", "--config-only", "-c", str(tmp_path / "syncd.yaml")],
        cwd=PROJECT,
        env={**os.environ, **environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_there_are_examples() -> None:
    """The rule above is about something: the README alone has three."""
    assert sum(name.startswith("README") for name in EXAMPLES) == 3


# ---- logs -------------------------------------------------------------------------------------------------


def test_every_logger_is_documented() -> None:
    """Users filter on the names of loggers: those in docs/systemd.md are all that there are."""
    documented = set(re.findall(r"^\| `(syncd\.[a-z]+)` \|", _text("docs/systemd.md"), re.MULTILINE))
    used = {
        name
        for path in (PROJECT / "syncd").rglob("*.py")
        for name in re.findall(r"getLogger\(([^)]+)\)", path.read_text(encoding="utf-8"))
        if "syncd" in name or "__name__" in name
    }

    assert {name.strip('"') for name in used} <= documented

"""The commands and files that the documents name exist, and CI runs the test command of the README."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_command_a_document_names_exists(document: str) -> None:
    named = set(
        re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)\b(?=[`\s]*(?:#|\n|`|$))", (ROOT / document).read_text())
    )
    assert named <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_a_document_links_to_exists(document: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def test_make_alone_lists_every_command() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) ", listed, flags=re.MULTILINE)) == TARGETS


def test_ci_runs_the_checks_and_all_tests_and_ends_with_the_readmes_test_command() -> None:
    readme = re.search(r"^(make test)\b", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert readme is not None
    commands = (ROOT / ".ci/run").read_text().splitlines()
    assert commands[-4:] == ["make check", "make test-faults", "make test-browser", readme.group(1)]


def test_ci_reads_as_bash() -> None:
    subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=True)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111

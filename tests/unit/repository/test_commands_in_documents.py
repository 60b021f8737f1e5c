"""What the README tells people to run exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


def test_ci_and_make_call_the_readmes_test_command() -> None:
    command = "sh tools/check.sh"
    assert f"    {command}\n" in README
    assert command in (ROOT / ".ci" / "run").read_text()
    assert command in (ROOT / "Makefile").read_text()


def test_no_document_or_source_names_a_place_of_this_machine() -> None:
    places = re.compile(r"/(?:work|root|home)/\w")
    named = [
        path.relative_to(ROOT)
        for root in ("core", "storage", "jetstream", "tools", "docs")
        for path in (ROOT / root).rglob("*")
        if path.suffix in {".py", ".md", ".pyx", ".sh", ".js", ".json"}
        and "node_modules" not in path.parts
        and places.search(path.read_text(errors="replace"))
    ]
    assert named == []

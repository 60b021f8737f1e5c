"""The documents' links lead to files that exist, and those that name a test lead to that test."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMPATIBILITY = ROOT / "docs" / "compatibility.md"


def links(document: Path) -> list[tuple[str, str]]:
    """Give text and target of each link that does not leave the repository."""
    return [(text, target) for text, target in LINK.findall(document.read_text()) if "://" not in target]


def is_in(name: str, file: Path) -> bool:
    """Tell whether a function of that name is defined there, or a script called so."""
    return re.search(rf'\bdef {name}\(|"{name}"', file.read_text()) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    missing = [target for _, target in links(document) if not (document.parent / target).exists()]
    assert missing == []


def test_every_test_that_a_document_names_is_there() -> None:
    missing: list[str] = []
    for document in DOCUMENTS:
        for text, target in links(document):
            file = (document.parent / target).resolve()
            if (
                ROOT / "tests" in file.parents
                and file.is_file()
                and "." not in text
                and not is_in(text, file)
            ):
                missing.append(f"{document.name}: {text} in {target}")
    assert missing == []


def test_every_feature_that_works_or_differs_names_its_test() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in COMPATIBILITY.read_text().splitlines()
        if re.search(r"\| (?:works|differs|absent) \|", line)
    ]
    assert len(rows) > 100
    shown = [row for row in rows if row[1] in {"works", "differs"} and len(row) > 3]
    assert [row[0] for row in shown if "](../" not in row[-1]] == []


def test_a_test_that_is_gone_is_noticed() -> None:
    here = Path(__file__)
    assert is_in("test_a_test_that_is_gone_is_noticed", here)
    assert not is_in("test_that_was_" + "never_there", here)

"""The page at `/`: what a person wants to know first, without scripts and without anything from elsewhere."""

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Final, NamedTuple

_TEMPLATE: Final = "page.html"


class Link(NamedTuple):
    """An endpoint, and what it shows."""

    path: str
    says: str


def page(title: str, facts: Sequence[tuple[str, str]], links: Sequence[Link]) -> str:
    """Fill in the page."""
    template = Template(resources.files(__package__ or "").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    rows = "\n".join(
        f'      <tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts
    )
    # Relative, so that they hold behind a proxy that adds a path.
    items = "\n".join(
        f'      <li><a href=".{escape(link.path)}">{escape(link.path)}</a> {escape(link.says)}</li>'
        for link in links
    )
    return template.substitute(title=escape(title), facts=rows, links=items)

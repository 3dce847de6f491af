"""A report as one HTML file that needs nothing but itself."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tireid.comparison.report.blocks import Section

_TEMPLATE = "page.html.jinja"


def as_page(title: str, sections: Sequence[Section]) -> str:
    """Return a report as HTML: no scripts, nothing fetched, all text escaped.

    Args:
        title: Its heading.
        sections: In order; the first stands above the contents.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(title=title, sections=sections)

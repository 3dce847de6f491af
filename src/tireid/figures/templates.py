"""Templates of report pages."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


def render(
    folder: Path, name: str, filters: Mapping[str, Callable[..., Any]], **values: Any
) -> str:
    """Return a page; what stands in HTML is escaped.

    Args:
        folder: Folder of the templates.
        name: Name of the page; its template has `.jinja` behind it.
        filters: For the template.
        **values: For the template.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(f"{name}.jinja").render(values)

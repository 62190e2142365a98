"""What the pages of a loop share: their style, their templates, and a whole page around a part."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


@cache
def page_template(package: str, name: str) -> Template:
    """Return a template of a package; it may import what lies beside this module.

    Everything put into it is escaped.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    places = [resources.files(package), resources.files("loopwright.monitor")]

    def text(name: str) -> str | None:
        found = [place / name for place in places if (place / name).is_file()]
        return found[0].read_text("utf-8") if found else None

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(text),
    )
    environment.filters["moment"] = told_moment
    return environment.get_template(name)


def whole_page(title: str, part: str) -> str:
    """Return a page that needs nothing else around a part that is HTML already."""
    return page_template("loopwright.monitor", "sheet.html.j2").render(title=title, part=part)


def told_moment(at: datetime | str | None) -> str:
    """Return a time as people write it, in UTC; text that is no time stays as it is.

    Examples
    --------
    >>> told_moment("2026-11-22T12:16:10.674406+00:00")
    '2026-11-22 12:16'
    """
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            return str(at)
    if at is None:
        return "–"
    moment = at if at.tzinfo is None else at.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M}"

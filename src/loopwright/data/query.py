"""The one question put to a database: a single SELECT, checked before it is sent."""

from __future__ import annotations

import re

from loopwright.core.errors import InvalidInputError

# what a scanner of SQL has to step over: quoted text, quoted names, dollar quotes, comments
_OPAQUE = re.compile(
    r"""
    (?P<text> [eE]?'(?:[^']|'')*' )
  | (?P<name> "(?:[^"]|"")*" )
  | (?P<dollar> \$(?P<tag>[A-Za-z_]\w*)?\$ .*? \$(?P=tag)?\$ )
  | (?P<line> --[^\n]* )
  | (?P<block> /\*.*?\*/ )
    """,
    re.VERBOSE | re.DOTALL,
)


def checked_query(query: str) -> str:
    """Return a query without its comments and last semicolon if it is a single SELECT.

    This catches mistakes early and in plain words; what keeps the database safe is that the query
    runs in a read-only transaction.

    Raises
    ------
    InvalidInputError
        If the query is empty, has several statements, or starts with anything but SELECT or WITH.

    Examples
    --------
    >>> checked_query("select ';' as x -- all;\\n;")
    "select ';' as x"
    """
    bare = _OPAQUE.sub(_without_comment, query).strip().rstrip(";").rstrip()
    skeleton = _OPAQUE.sub("''", bare)
    first = re.match(r"[(\s]*(\w*)", skeleton)
    verb = first[1].lower() if first else ""
    if ";" in skeleton:
        raise _refused(query, "The query has several statements.", "Keep one SELECT.")
    if verb not in ("select", "with"):
        found = f"starts with {verb.upper()!r}" if verb else "is empty"
        raise _refused(query, f"The query {found}.", "Only SELECT, or WITH ... SELECT, is run.")
    return bare


def _without_comment(match: re.Match[str]) -> str:
    return " " if match["line"] or match["block"] else match[0]


def _refused(query: str, message: str, hint: str) -> InvalidInputError:
    return InvalidInputError(message, hint=hint, field="data.source.query", value=query[:500])

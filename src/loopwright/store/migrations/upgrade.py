"""Runs the migrations a database still lacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.script import ScriptDirectory


def scripts() -> ScriptDirectory:
    """Return the migrations that ship with this version of loopwright."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(__file__).parent))


def upgrade(connection: sa.Connection, *, version_table: str) -> None:
    """Run every migration above the database's own revision, in order.

    Call it inside a transaction that keeps other writers out. There is no `env.py`: the steps
    are handed to Alembic's migration context directly, so nothing is read from a folder of
    settings and no logging is changed.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, MigrationStep

    directory = scripts()

    def steps(revision: Any, _: MigrationContext) -> Iterable[MigrationStep]:
        missing = list(directory.iterate_revisions("heads", revision or "base"))
        return [
            MigrationStep.upgrade_from_script(directory.revision_map, script)
            for script in reversed(missing)
        ]

    context = MigrationContext.configure(
        connection, opts={"version_table": version_table, "fn": steps, "transactional_ddl": True}
    )
    with Operations.context(context):
        context.run_migrations()

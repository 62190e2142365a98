"""The command that answers all rows of files."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.main import command


@command
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--input", "-i", "rows", required=True, help="File, folder, pattern or address.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option("--id", "id_column", help="Column that names a row; written beside its answer.")
@click.option("--keep", multiple=True, help="Column to write as well; '*' keeps all.")
@click.option("--with", "extras", multiple=True, help="Add to every answer, such as interval.")
@click.option("--format", "kind", type=click.Choice(["parquet", "csv", "jsonl"]), default="parquet")
@click.option("--part-rows", type=int, default=50_000, show_default=True, help="Rows in a part.")
@click.option("--jobs", type=int, help="Have so many jobs at a time do it [default: none].")
@click.option("--memory", default="2 GiB", show_default=True, help="All that a job may hold.")
def transform(
    home: Path | None,
    as_json: bool,
    model: Path,
    rows: str,
    output: Path,
    id_column: str | None,
    keep: tuple[str, ...],
    extras: tuple[str, ...],
    kind: str,
    part_rows: int,
    jobs: int | None,
    memory: str,
) -> int:
    """Answer all rows of files with MODEL: a loop file, whose champion answers, or a model.tar.gz.

    Run the same command again to go on after an interruption. Exit code 3: some rows were rejected.
    """
    from loopwright.cli.show import echo_json
    from loopwright.compute import Resources
    from loopwright.notebook import transforming

    def told(number: int, n_rows: int, n_rejected: int) -> None:
        if not as_json:
            rejected = f", {n_rejected:,} rejected" if n_rejected else ""
            click.echo(f"part {number:>6}  {n_rows:,} rows{rejected}")

    result = transforming.transform(
        model,
        rows,
        output,
        id_column=id_column,
        keep=keep,
        extras=extras,
        format=kind,  # type: ignore[arg-type] # one of the choices
        part_rows=part_rows,
        jobs=jobs,
        resources=Resources(memory=memory) if jobs is not None else None,
        home=home,
        on_part=told,
    )
    if as_json:
        echo_json(
            {
                "output": str(result.output),
                "n_rows": result.n_rows,
                "n_rejected": result.n_rejected,
                "n_parts": result.n_parts,
                "n_kept_parts": result.n_kept_parts,
            }
        )
    else:
        kept = f", {result.n_kept_parts} of them done before" if result.n_kept_parts else ""
        click.echo(
            f"{result.n_rows:,} rows, {result.n_rejected:,} rejected, {result.n_parts} parts{kept}:"
            f" {result.output}"
        )
    return 3 if result.n_rejected else 0

"""Predictions and their ground truth, joined as they come: on the disk, by hash, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.monitor.label_rule import (
    HeldBatch,
    LabelCounts,
    counted_labels,
    standing_labels,
)
from loopwright.monitor.ledger_files import LedgerFiles
from loopwright.monitor.ledger_row import (
    LedgerAbout,
    answered,
    changed,
    ends_of,
    hashed,
    key_text,
    label_rows,
    parted,
    prediction_rows,
    slot,
    table_schemas,
)
from loopwright.monitor.run_table import found, scanned, slices

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_LABEL_COLUMNS = ("hash", "number", "inference_id", "value", "at", "source")
_ANSWER_COLUMNS = (
    "hash",
    "inference_id",
    "at",
    "version",
    "variant",
    "shadow",
    "prediction",
    "probability",
    "probabilities",
)


class Ledger:
    """Everything an endpoint answered and what turned out to be true, in one folder.

    `take_predictions` and `take_labels` add rows and join them with what is there, whatever came
    first. Each change is one commit under the next `number`: a
    process that is killed has made it or has not, and who reads remembers up to which number it has
    read. A search reads 8 bytes a row, so that an hour's labels find their predictions among ten
    million in a fraction of a second. One process writes at a time; see `locked_loop`.

    Parameters
    ----------
    folder
        Where the files lie; made when something is taken in.
    about
        What the rows mean. Where a ledger of another meaning lies in the folder, or one whose
        hashes this release of Polars does not repeat, an empty one takes its place.
    """

    def __init__(self, folder: Path, about: LedgerAbout) -> None:
        self.folder = folder
        self._schemas = table_schemas(about)
        self._files = LedgerFiles(folder, about)

    @property
    def number(self) -> int:
        """The number of the last change; 0 for none."""
        return self._files.manifest.number

    @property
    def epoch(self) -> str:
        """Tells ledgers apart: numbers of another epoch mean nothing in this one."""
        return self._files.manifest.epoch

    @property
    def settled(self) -> int:
        """The number up to which everything was read by whoever has no number of this epoch."""
        return self._files.manifest.settled

    @property
    def cursors(self) -> Mapping[str, Any]:
        """How far the logs have been read that feed the ledger, as their reader left it."""
        return self._files.manifest.cursors

    @property
    def counts(self) -> LabelCounts:
        """The account of everything taken in."""
        return self._files.manifest.counts

    @property
    def held(self) -> tuple[HeldBatch, ...]:
        """The batches of labels that do not count."""
        return self._files.manifest.held

    @property
    def about(self) -> LedgerAbout:
        """What the rows mean."""
        return self._files.manifest.about

    # --- taking in ---

    def take_predictions(
        self, predictions: pl.DataFrame, *, cursors: Mapping[str, Any] | None = None
    ) -> None:
        """Take in some predictions, all of them or, where the process dies, none.

        Parameters
        ----------
        predictions
            As `read_capture_lines` gives them. Of several with one id the first that is taken in
            counts, and of those in one call the earliest.
        cursors
            How far the logs have been read with these rows.
        """
        number, parts = self.number + 1, self._no_parts()
        counts = self.counts
        if predictions.height:
            more, rows = self._new_predictions(predictions, number)
            parts["predictions"].append(rows)
            waited = self._find("waiting", rows["hash"], _LABEL_COLUMNS)
            waited, _ = parted(waited, rows)
            added = self._joined_with(rows, waited, number=number, parts=parts)
            counts = counts.plus(**more).plus(n_unknown=-waited.height).plus(**added)
        self._commit(parts, number=number, counts=counts, cursors=cursors)

    def take_labels(
        self,
        labels: pl.DataFrame,
        *,
        cursors: Mapping[str, Any] | None = None,
    ) -> None:
        """Take in some labels, all of them or, where the process dies, none.

        Parameters
        ----------
        labels
            inference_id, label, at, source, in any order. What cannot be a label is kept aside.
            Where there is a column key, a row without an id is for the newest prediction of that
            business key before its time.
        cursors
            How far the logs have been read with these rows.
        """
        number, parts = self.number + 1, self._no_parts()
        counts = self.counts
        if labels.height:
            labels, n_ambiguous = self._with_ids(labels)
            counts = counts.plus(n_ambiguous=n_ambiguous)
            sound, wrong = label_rows(labels, self.about, number=number)
            answers = self._find("predictions", sound["hash"], _ANSWER_COLUMNS)
            known, unknown = parted(sound, answers)
            parts["unreadable"].append(wrong)
            parts["waiting"].append(unknown)
            added = self._joined_with(answers, known, number=number, parts=parts)
            counts = counts.plus(
                n_labels=labels.height, n_unreadable=wrong.height, n_unknown=unknown.height
            ).plus(**added)
        self._commit(parts, number=number, counts=counts, cursors=cursors)

    def hold(self, batches: Sequence[HeldBatch]) -> None:
        """Let some batches of labels count no more; what other batches say counts again."""
        new = [each for each in batches if each not in self.held]
        if new:
            self._rejudge(new, held=(*self.held, *new))

    def release(self, batch_id: str) -> None:
        """Let the labels of a held batch count; nothing happens if there is none of this id."""
        gone = [each for each in self.held if each.id == batch_id]
        if gone:
            kept = tuple(each for each in self.held if each.id != batch_id)
            self._rejudge(gone, held=kept)

    def settle(self) -> None:
        """Note that everything so far was read by whoever has no number of this epoch."""
        self._files.write(settled=self.number)

    def _new_predictions(
        self, predictions: pl.DataFrame, number: int
    ) -> tuple[dict[str, int], pl.DataFrame]:
        rows, n_repeated = prediction_rows(predictions, self.about, number=number)
        before = self._find("predictions", rows["hash"], ("inference_id", "shadow", "variant"))
        if before.height:
            keys = ["inference_id", "slot"]
            slotted = rows.with_columns(slot().alias("slot"))
            new = slotted.join(before.with_columns(slot().alias("slot")), on=keys, how="anti")
            shown = pl.col("shadow").not_()
            n_repeated += rows.filter(shown).height - new.filter(shown).height
            rows = new.sort("at", "inference_id").drop("slot")
        n_shown = rows.filter(~pl.col("shadow")).height
        return {"n_predictions": n_shown, "n_repeated_predictions": n_repeated}, rows

    def _with_ids(self, labels: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Return labels by inference id, and how many keys told several predictions."""
        if "key" not in labels.columns:
            return labels, 0
        by_key = labels.filter(pl.col("key").is_not_null())
        if not by_key.height:
            return labels.drop("key"), 0
        told = self.answers_by_key(by_key["key"], by_key["at"])
        # one that no prediction has stays on record under its key
        ids = told["inference_id"].fill_null("key:" + by_key["key"])
        found_ids = by_key.with_columns(ids.alias("inference_id"))
        rest = labels.filter(pl.col("key").is_null())
        return pl.concat([rest, found_ids]).drop("key"), int((told["n_candidates"] > 1).sum())

    def _joined_with(
        self,
        answers: pl.DataFrame,
        labels: pl.DataFrame,
        *,
        number: int,
        parts: dict[str, list[pl.DataFrame]],
    ) -> dict[str, int]:
        """Note what new labels of some predictions come to, and return what that adds to the counts."""
        if not labels.height:
            return {}
        # what waited for its prediction and was held meanwhile stays in its batch
        is_held = pl.any_horizontal(pl.lit(False), *(each.rows() for each in self.held))
        as_taken = pl.when(is_held).then(pl.col("number")).otherwise(number)
        new = labels.with_columns(as_taken.cast(pl.Int64).alias("number"))
        parts["labels"].append(new.select(self._schemas["labels"].names()))
        before = self._find("labels", new["hash"], _LABEL_COLUMNS)
        before, _ = parted(before, new)
        after = pl.concat([before, new.select(_LABEL_COLUMNS)])
        return self._change(
            answers, before, after, held=(self.held, self.held), number=number, parts=parts
        )

    def _change(
        self,
        answers: pl.DataFrame,
        before: pl.DataFrame,
        after: pl.DataFrame,
        *,
        held: tuple[Sequence[HeldBatch], Sequence[HeldBatch]],
        number: int,
        parts: dict[str, list[pl.DataFrame]],
    ) -> dict[str, int]:
        """Note the predictions whose label becomes another; return what that adds to the counts."""
        grace_s = self.about.grace_s
        was = standing_labels(before, grace_s=grace_s, held=held[0])
        now = standing_labels(after, grace_s=grace_s, held=held[1])
        told = [
            counted_labels(answered(answers.filter(~pl.col("shadow")), each)) for each in (now, was)
        ]
        rows = changed(answers, now, was, number=number, schema=self._schemas["joined"])
        parts["joined"].append(rows)
        return {name: told[0][name] - told[1][name] for name in told[0]}

    def _rejudge(self, batches: Sequence[HeldBatch], *, held: tuple[HeldBatch, ...]) -> None:
        number, parts = self.number + 1, self._no_parts()
        touched = pl.any_horizontal(pl.lit(False), *(each.rows() for each in batches))
        names = self._schemas["labels"].names()
        query = scanned(self.folder, self._files.runs("labels"), self._schemas["labels"])
        rows = query.filter(touched).select(names).collect(engine="streaming")
        counts = self.counts
        if rows.height:
            labels = self._find("labels", rows["hash"], _LABEL_COLUMNS)
            labels, _ = parted(labels, rows)
            answers = self._find("predictions", rows["hash"], _ANSWER_COLUMNS)
            added = self._change(
                answers,
                labels,
                labels,
                held=(self.held, held),
                number=number,
                parts=parts,
            )
            counts = counts.plus(**added)
        self._commit(parts, number=number, counts=counts, held=held)

    # --- reading ---

    def predictions(self, *, above: int = 0) -> Iterator[pl.DataFrame]:
        """Yield the predictions taken in after a number, a slice at a time, shadows included."""
        yield from slices(self.folder, self._files.runs("predictions"), above=above)

    def labels(self, *, above: int = 0) -> pl.DataFrame:
        """Return the labels taken in after a number that met a prediction: all rows of them."""
        parts = slices(self.folder, self._files.runs("labels"), above=above)
        empty = pl.DataFrame(schema=self._schemas["labels"])
        return pl.concat([empty, *parts])

    def moves(self, *, above: int = 0) -> pl.DataFrame:
        """Return the predictions whose label became another after a number, as they stand now.

        Columns of the table `joined`; is_first tells whether they had no label at that number.
        Shadows are left out. Memory grows with what is new.
        """
        parts = list(slices(self.folder, self._files.runs("joined"), above=above))
        if not parts:
            return pl.DataFrame(schema=self._schemas["joined"])
        return ends_of(pl.concat(parts).filter(~pl.col("shadow")))

    def newly_labelled(self, *, above: int = 0) -> pl.DataFrame:
        """Return the predictions that had no label at a number and have one now; see `moves`."""
        return self.moves(above=above).filter("is_first")

    def labelled(
        self,
        *,
        version: str | None = None,
        columns: Sequence[str] = ("at", "label", "prediction", "probability", "probabilities"),
        shadow: bool = False,
        since: Any = None,
    ) -> pl.DataFrame:
        """Return predictions with the label that counts, by prediction time.

        Parameters
        ----------
        version
            Those of one model version; None for all.
        columns
            Of the table `joined`; a million rows of the five above take 30 to 40 MB.
        shadow
            Those that nobody saw, in place of those that were given.
        since
            Those answered after this moment.
        """
        schema = self._schemas["joined"]
        names = list(dict.fromkeys((*columns, "at")))
        wanted = pl.col("shadow") == shadow
        wanted = wanted if version is None else wanted & (pl.col("version") == version)
        wanted = wanted if since is None else wanted & (pl.col("at") > since)
        query = scanned(self.folder, self._files.runs("joined"), schema)
        again = query.filter(~pl.col("is_first")).select("hash").unique().collect()["hash"]
        several = pl.col("hash").is_in(again.implode()) if len(again) else pl.lit(False)
        kept = query.filter(wanted & ~several).select(names).collect(engine="streaming")
        if len(again):
            keys = ["inference_id", "variant"]
            moves = query.filter(wanted & several).collect(engine="streaming")
            last = moves.sort("number", maintain_order=True).unique(
                keys, keep="last", maintain_order=True
            )
            kept = pl.concat([kept, last.filter(pl.col("label").is_not_null()).select(names)])
        order = ["at", "inference_id"] if "inference_id" in names else ["at"]
        return kept.sort(order, maintain_order=True).select(columns)

    def answers_by_key(self, keys: pl.Series, at: pl.Series) -> pl.DataFrame:
        """Return for each business key the inference id of the newest prediction before a moment.

        Parameters
        ----------
        keys, at
            The keys, (n,), and when what they tell was true, (n,), aware.

        Returns
        -------
        polars.DataFrame
            One row a key, in their order: inference_id, null where no prediction of the key was made
            by then, and n_candidates, how many were.
        """
        asked = pl.DataFrame({"key": key_text(keys), "label_at": at}).with_row_index("row")
        hashes = asked.select(hashed("key").alias("hash"))["hash"].drop_nulls()
        known = self._find(
            "predictions", hashes, ("key", "at", "inference_id", "shadow"), by="key_hash"
        ).filter(~pl.col("shadow"))
        told = (
            asked.join(known, on="key", how="left")
            .with_columns((pl.col("at") <= pl.col("label_at")).fill_null(False).alias("fits"))
            .sort("row", "fits", "at", "inference_id")
            .group_by("row", maintain_order=True)
            .agg(
                pl.when(pl.col("fits").last()).then(pl.col("inference_id").last()),
                pl.col("fits").sum().cast(pl.Int64).alias("n_candidates"),
            )
        )
        return told.drop("row")

    def inputs(self, hashes: pl.Series) -> pl.DataFrame:
        """Return inference_id and inputs (JSON text) of the predictions with some hashes."""
        return self._find("predictions", hashes, ("inference_id", "inputs", "shadow")).filter(
            ~pl.col("shadow")
        )

    # --- changing ---

    def _no_parts(self) -> dict[str, list[pl.DataFrame]]:
        return {name: [] for name in self._schemas}

    def _find(
        self, table: str, keys: pl.Series, columns: Sequence[str], *, by: str = "hash"
    ) -> pl.DataFrame:
        runs, schema = self._files.runs(table), self._schemas[table]
        return found(self.folder, runs, keys, schema=schema, columns=columns, by=by)

    def _commit(
        self,
        parts: Mapping[str, Sequence[pl.DataFrame]],
        *,
        number: int,
        counts: LabelCounts,
        cursors: Mapping[str, Any] | None = None,
        held: tuple[HeldBatch, ...] | None = None,
    ) -> None:
        self._files.commit(
            parts,
            number=number,
            counts=counts,
            cursors={**self.cursors, **(cursors or {})},
            held=self.held if held is None else held,
        )

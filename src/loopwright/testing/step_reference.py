"""The reference of the recipe's steps: names, options and defaults from the code, uses beside them.

    python -m loopwright.testing.step_reference > docs/reference/recipe-steps.md

A step without a use or an example, an option without a meaning, and either for something that is
not there stop the generation.
"""

from __future__ import annotations

import sys
import typing

from loopwright.prepare.order import options_of, step_kinds
from loopwright.prepare.sklearn_step import TRANSLATORS
from loopwright.testing.reference import (
    Table,
    check_same,
    default_of,
    first_sentence,
    markdown_table,
    paragraphs_of,
    type_of,
)

USES: dict[str, tuple[str, str]] = {
    "drop": ("a model must not see a column", "{step: drop, columns: [internal_code]}"),
    "drop_personal": (
        "columns say who somebody is; put it first",
        "{step: drop-personal, columns: [email, phone]}",
    ),
    "drop_correlated": (
        "there are many columns that say the same",
        "{step: drop-correlated, threshold: 0.98}",
    ),
    "select_best": ("there are far more columns than matter", "{step: select-best, k: 50}"),
    "derive": (
        "you know a formula",
        '{step: derive, name: age, expression: "year_sold - year_built"}',
    ),
    "cast": ("values are stored as another type", "{step: cast, columns: [zipcode], to: text}"),
    "date_parts": (
        "season, weekday or trend matter",
        "{step: date-parts, columns: [sold], parts: [year, month], cyclic: true}",
    ),
    "interact": (
        "two numbers tell more together",
        "{step: interact, columns: [width, length], by: product}",
    ),
    "impute": (
        "there are gaps and the algorithm takes none",
        "{step: impute, columns: [income], strategy: mean}",
    ),
    "group_impute": (
        "a category tells about the gap",
        "{step: group-impute, columns: [income], by: job}",
    ),
    "knn_impute": (
        "other numbers tell about the gap, and a millisecond a row is no matter",
        "{step: knn-impute, columns: [height, weight], n_neighbours: 5}",
    ),
    "log1p": ("amounts from 0 upwards have a long tail", "{step: log1p, columns: [income]}"),
    "power": ("a tail is long on either side", "{step: power, columns: [balance]}"),
    "clip": ("a few values are far out, or wrong", "{step: clip, columns: [income], tail: 0.01}"),
    "bin": ("only the range matters", "{step: bin, columns: [age], n_bins: 5}"),
    "scale": ("a linear model or neighbours compare columns", "{step: scale, but: [score]}"),
    "robust_scale": ("the same, and there are outliers", "{step: robust-scale}"),
    "quantile_scale": (
        "only the rank of a number matters",
        "{step: quantile-scale, columns: [income], output: normal}",
    ),
    "group_rare": (
        "many levels are held by a few rows each",
        "{step: group-rare, columns: [city], min_share: 0.01}",
    ),
    "one_hot": ("there are a few levels", "{step: one-hot, columns: [colour], max_levels: 20}"),
    "ordinal": (
        "levels have an order",
        "{step: ordinal, columns: [size], order: [small, middle, large]}",
    ),
    "frequency": ("how usual a level is matters", "{step: frequency, columns: [browser]}"),
    "target_encode": (
        "there are many levels and many rows",
        "{step: target-encode, columns: [zipcode], smoothing: 20}",
    ),
    "hash": (
        "there are too many levels to remember",
        "{step: hash, columns: [product], n_features: 32}",
    ),
    "text_vector": (
        "a column is free text",
        "{step: text-vector, columns: [message], words: 2, n_features: 1000}",
    ),
    "sklearn": (
        "you know it from scikit-learn",
        "{step: sklearn, columns: [income], transformer: RobustScaler}",
    ),
}
"""For each step when to use it, and an example."""

OPTION_MEANINGS: dict[str, str] = {
    "columns": "The columns it is done to; empty, where that is the default, for all numbers.",
    "name": "Name of the new column.",
    "expression": "Its formula; see [the language](loop-file.md#the-language-of-derive).",
    "by": "What it goes by.",
    "k": "Columns to keep.",
    "threshold": "Greatest absolute correlation that stays, above 0 to 1.",
    "to": "The type to read them as.",
    "format": "How dates are written, as in `strptime`; empty for 2026-01-31.",
    "parts": "Which numbers to make of a date.",
    "cyclic": "Whether what goes round becomes a sine and a cosine.",
    "strategy": "How the value or the edges are found.",
    "value": "What to fill with, for `constant`.",
    "indicator": "Whether a further column says where there was a gap.",
    "but": "Columns to leave as they are, where all numbers are meant.",
    "n_neighbours": "Rows whose mean fills a gap, at least 1.",
    "max_rows": "Training rows kept to look among, 1 to 2,000.",
    "tail": "Share of rows beyond each bound, 0 to below 0.5.",
    "n_bins": "Bins, 2 to 1,000.",
    "output": "Shares from 0 to 1, or the normal numbers of those shares.",
    "n_quantiles": "Quantiles remembered, at least 2.",
    "min_share": "Least share of the training rows that a level needs, 0 to 1.",
    "max_levels": "Most levels that stay, the most frequent ones.",
    "other": "The word for all other levels.",
    "order": "The levels from the lowest; sorted when absent.",
    "keep_source": "Whether the category stays beside the number, for a later step.",
    "smoothing": "Rows' worth of the overall mean in the mean of each level, 0 or more.",
    "n_folds": "Parts of the training rows; a row sees the others' means only.",
    "per_class": "Whether each class gets a column with its share.",
    "n_features": "Columns to make of each.",
    "method": "Terms that training rows hold, weighed; or hashes, which remember nothing.",
    "words": "Longest run of words that is a term, 1 to 3.",
    "characters": "Whether pieces of words are terms too.",
    "transformer": "Its name in scikit-learn: "
    + ", ".join(f"`{name}`" for name in TRANSLATORS)
    + ".",
    "settings": "Its settings, by the names of scikit-learn.",
}

_HEAD = """\
# The steps of a recipe

Under [`prepare.steps`](loop-file.md#prepare) of the loop file, or as `instead:` of a suggestion that
you overrule, a step is a name and its options: `- {step: clip, columns: [income], tail: 0.01}`. A hyphen may
stand for `_`. `reason` says why, and reports show it as by you. In Python the same steps are classes of
`loopwright.prepare`. All of them are fitted on the training rows only and give a table, a stream and
one request the same bits.

Written by `python -m loopwright.testing.step_reference` from the code, and compared with it by a test:
change it there.
"""


def recipe_steps_reference() -> str:
    """Return the reference of the steps as Markdown.

    Raises
    ------
    AssertionError
        If a step or an option is not explained, or something is explained that is not there.
    """
    kinds = step_kinds()
    check_same(USES, kinds, "steps")
    check_same(
        OPTION_MEANINGS, {key for kind in kinds.values() for key in options_of(kind)}, "options"
    )
    overview: Table = [(f"[`{name}`](#{name})", USES[name][0]) for name in kinds]
    parts = [_HEAD, markdown_table(("step", "use it when"), overview)]
    for name, kind in kinds.items():
        parts += [f"## `{name}`\n\n{first_sentence(kind)} Use it when {USES[name][0]}.\n"]
        parts += [*paragraphs_of(kind), f"Example: `{USES[name][1]}`\n", _options(kind)]
    return "\n".join(parts)


def _options(kind: type) -> str:
    hints = typing.get_type_hints(kind)
    rows: Table = [
        (
            f"`{key}`",
            "map to a value" if key == "settings" else type_of(hints[field.name]),
            default_of(field),
            OPTION_MEANINGS[key],
        )
        for key, field in options_of(kind).items()
    ]
    return markdown_table(("option", "type", "default", "meaning"), rows)


if __name__ == "__main__":
    sys.stdout.write(recipe_steps_reference())

"""Outcomes: the classes behind a model's numbers, and the answers a caller gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.problem import TASKS, Task
from loopwright.train.calibration import Calibration
from loopwright.train.interval import Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a model says, in the words of the problem.

    Parameters
    ----------
    task
        `regression`, `binary` or `multiclass`.
    classes
        Names of the classes in the order of their index; none for regression, for `binary` the
        negative and then the positive one.
    threshold
        Binary only: probability from which the positive class is said, 0 to 1; a calibrated
        probability where there is a calibration.
    calibration
        Repairs the probabilities of a classification; nothing leaves them as they are.
    interval
        Makes prediction intervals of a regression; nothing when there are none.

    Raises
    ------
    InvalidInputError
        If the number of classes does not go with the task, two are the same, the threshold is out
        of range, or the calibration or the interval is for another task.
    """

    task: Task
    classes: tuple[str, ...] = ()
    threshold: float = 0.5
    calibration: Calibration | None = None
    interval: Interval | None = None

    def __post_init__(self) -> None:
        n_classes = len(self.classes)
        fits = {"regression": n_classes == 0, "binary": n_classes == 2, "multiclass": n_classes > 1}
        if not fits.get(self.task, False):
            raise InvalidInputError(
                f"A {self.task} problem cannot have {n_classes} classes.",
                hint="regression has none, binary two, multiclass two or more.",
                field="classes",
                value=n_classes,
            )
        if len(set(self.classes)) < n_classes or not all(isinstance(c, str) for c in self.classes):
            raise InvalidInputError(
                "The classes are not different texts.",
                hint="Name every class once.",
                field="classes",
            )
        if not isinstance(self.threshold, int | float) or not 0 <= self.threshold <= 1:
            raise InvalidInputError(
                f"The threshold is {self.threshold!r}.",
                hint="It is a probability from 0 to 1.",
                field="threshold",
                value=self.threshold,
            )
        self._check_additions()

    def _check_additions(self) -> None:
        method = self.calibration.method if self.calibration else None
        fits = {"binary": method != "temperature", "multiclass": method == "temperature"}
        if method is not None and not fits.get(self.task, False):
            raise InvalidInputError(
                f"A {self.task} problem cannot have a calibration by {method}.",
                hint="platt, beta and isotonic are for two classes, temperature for more.",
                field="calibration",
                value=method,
            )
        if self.interval is not None and self.task != "regression":
            raise InvalidInputError(
                f"A {self.task} problem cannot have prediction intervals.",
                hint="Only a predicted number has one.",
                field="interval",
            )

    @property
    def n_outputs(self) -> int:
        """How many numbers a model gives for a row."""
        return len(self.classes) if self.task == "multiclass" else 1

    def indices(self, values: Sequence[object]) -> npt.NDArray[np.float64]:
        """Return the index of each value's class, `(n_rows,)`; see `class_text`.

        Raises
        ------
        InvalidInputError
            If a value is missing or names no class.
        """
        place = {name: float(index) for index, name in enumerate(self.classes)}
        indices = np.empty(len(values))
        for row, value in enumerate(values):
            index = None if value is None else place.get(class_text(value))
            if index is None:
                raise InvalidInputError(
                    f"The target of row {row} is {value!r}, which is none of the classes.",
                    hint=did_you_mean(str(value), self.classes),
                    field="target",
                    value=value,
                )
            indices[row] = index
        return indices

    def calibrated(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the numbers behind the answers, from `Predictor.predict_raw`."""
        return raw if self.calibration is None else self.calibration.applied(raw)

    def said(self, raw: npt.NDArray[np.float64]) -> list[float] | list[str]:
        """Return the value or the class said for each row, from `calibrated` numbers."""
        if self.task == "regression":
            values: list[float] = raw.tolist()
            return values
        if self.task == "binary":
            negative, positive = self.classes
            return [positive if p >= self.threshold else negative for p in raw.tolist()]
        return [self.classes[index] for index in raw.argmax(axis=1).tolist()]

    def answers(self, raw: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
        """Return one answer a row, from `calibrated` numbers.

        `{"prediction": value}`; with `probability` (of the positive class) for two classes, and
        `probabilities` (by class) for more.
        """
        said = self.said(raw)
        if self.task == "regression":
            return [{"prediction": value} for value in said]
        if self.task == "binary":
            pairs = zip(said, raw.tolist(), strict=True)
            return [{"prediction": name, "probability": p} for name, p in pairs]
        return [
            {"prediction": name, "probabilities": dict(zip(self.classes, shares, strict=True))}
            for name, shares in zip(said, raw.tolist(), strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON types."""
        value: dict[str, Any] = {
            "task": self.task,
            "classes": list(self.classes),
            "threshold": self.threshold,
        }
        if self.calibration is not None:
            value["calibration"] = self.calibration.to_json()
        if self.interval is not None:
            value["interval"] = self.interval.to_json()
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """Return the outcome that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If it is not one.
        """
        try:
            task, classes = value["task"], tuple(value["classes"])
            threshold = value["threshold"]
            calibration, interval = value.get("calibration"), value.get("interval")
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(
                "The outcome lacks its task, its classes or its threshold.",
                hint="Pack the model again.",
                field="outcome",
            ) from error
        if task not in TASKS:
            raise InvalidInputError(
                f"No task is named {str(task)[:80]!r}.",
                hint=did_you_mean(str(task)[:80], TASKS),
                field="task",
            )
        return cls(
            task=task,
            classes=classes,
            threshold=threshold,
            calibration=None if calibration is None else Calibration.from_json(calibration),
            interval=None if interval is None else Interval.from_json(interval),
        )


def class_text(value: object) -> str:
    """Return the text a class goes by: numbers without a needless `.0`, truth as true and false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def named_outcome(
    task: Task, classes: Sequence[str] = (), *, positive: str | None = None, threshold: float = 0.5
) -> Outcome:
    """Return the outcome of a problem, the positive class last.

    Raises
    ------
    InvalidInputError
        If `positive` is none of the classes.
    """
    names = tuple(classes)
    if task == "binary" and positive is not None:
        if positive not in names:
            raise InvalidInputError(
                f"The positive class {positive!r} is none of the classes.",
                hint=did_you_mean(positive, names),
                field="positive",
                value=positive,
            )
        names = (*(name for name in names if name != positive), positive)
    return Outcome(task=task, classes=names, threshold=threshold)

"""Teacher and data are of the same classes in the same order? Asked of the test data, before anything is trained."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from dap.errors import DataError


def check_classes(confusion: Tensor, class_names: tuple[str, ...], teacher: str, test: str) -> dict[str, Any]:
    """What a teacher's confusion matrix int64 [K, K] (rows: true classes) says about the order of its classes.

    Gives {"accuracy", "chance", "best_order": {"accuracy", "moved": {class: the class it is called}}}, fractions;
    `best_order` is the permutation of the teacher's outputs that fits best (linear sum assignment).
    Warns when that is another than the teacher's own. Raises: DataError for an accuracy below 2 / K (below 3/4 for two
    classes, where 2 / K would ask for all), naming the likely cause.
    """
    from scipy.optimize import linear_sum_assignment

    classes, total = len(class_names), int(confusion.sum())
    right = int(confusion.trace())
    _, said = linear_sum_assignment(confusion.numpy(), maximize=True)
    best = int(confusion.numpy()[range(classes), said].sum())
    moved = {class_names[i]: class_names[j] for i, j in enumerate(said) if i != j} if best > right else {}
    accuracy, chance = right / total, 1 / classes
    shown = ", ".join(f"{a!r} is called {b!r}" for a, b in list(moved.items())[:3]) + (
        ", ..." if len(moved) > 3 else ""
    )
    if accuracy < min(2 * chance, (1 + chance) / 2):
        cause = (
            f"with its classes in another order it would get {best / total:.1%} ({shown}): the order is wrong, "
            "check --teacher-classes or the names of the class folders"
            if best / total >= min(2 * chance, (1 + chance) / 2)
            else "no order of its classes is much better: it was trained on other images, or reads these wrongly"
        )
        raise DataError(f"teacher {teacher!r} gets {accuracy:.1%} on {test!r}, chance is {chance:.1%}; {cause}")
    if moved:
        warnings.warn(
            f"teacher {teacher!r} gets {accuracy:.1%} on {test!r}, and {best / total:.1%} with classes in another "
            f"order ({shown}): make sure that its classes are those of the data",
            stacklevel=2,
        )
    return {"accuracy": accuracy, "chance": chance, "best_order": {"accuracy": best / total, "moved": moved}}

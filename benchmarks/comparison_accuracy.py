"""How a row's accuracy changed between two results on the same images, and whether by more than chance.

McNemar's test wants the images that one of the two alone gets right. A result says which images each row got wrong, and
what images they were; older ones and summaries say how many alone. How many one alone gets right is then known within
bounds, which are narrow where few answers are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from quillrt.train.mcnemar import exact_p

from .measured import Accuracy
from .results import Result


@dataclass(frozen=True)
class AccuracyChange:
    """The accuracy after, against that before.

    Attributes:
        images: how many.
        points: the change.
        p_low: McNemar's exact p; where it is not known, if the two err on the same images as far as they can.
        p_high: the same; where it is not known, if they err on different ones as far as they can.
        bounded: why p is not known but within these bounds; empty where it is.
    """

    images: int
    points: float
    p_low: float
    p_high: float
    bounded: str = ""


def same_images(old: Result, new: Result) -> bool | None:
    """Tell whether two results are of the same images; ``None`` where only their names say so."""
    named = old.settings["source"] == new.settings["source"]
    told = [result.settings.get("images_sha256") for result in (old, new)]
    return (None if named else False) if None in told else told[0] == told[1]


def accuracy_change(old: Accuracy | None, new: Accuracy | None, same: bool | None) -> AccuracyChange | None:  # noqa: FBT001
    """Return the change, ``None`` where one is not told or they were found on other images.

    Args:
        old: before.
        new: after.
        same: as ``same_images`` has it.
    """
    if old is None or new is None or old.images != new.images or same is False:
        return None
    points = 100 * (new.right - old.right) / old.images
    if same and old.wrong is not None and new.wrong is not None:
        before, after = set(old.wrong), set(new.wrong)
        p = exact_p(len(after - before), len(before - after))
        return AccuracyChange(old.images, points, p, p)
    wrong, now = old.images - old.right, new.images - new.right
    both_wrong = min(wrong, now), max(0, wrong + now - old.images)  # at most, at least
    low, high = (exact_p(now - both, wrong - both) for both in both_wrong)
    bounded = "a result does not say which images it got wrong" if same else "a result does not say which images it has"
    return AccuracyChange(old.images, points, low, high, bounded)

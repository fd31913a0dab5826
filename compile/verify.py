"""Every runnable file of a bundle against its FP32 graph, on the same real images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import BY_NAME, open_session, why_unasked
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import AccuracyError, BackendUnavailable, BundleError, ConfigError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.predict import run_images
from quillrt.runtime.preprocessing import fit_images
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.select import model_of, why_not
from quillrt.train.evaluation import check_labels
from quillrt.train.mcnemar import mcnemar

MAX_DROP = 0.5  # points of accuracy
_REFERENCE = "onnxruntime-cpu"
_CHANCE = 0.05  # p below which a drop is no chance
_FP32_TOLERANCE = 1e-3  # of the largest logit; sums in another order differ far less, TF32 about as much


@dataclass(frozen=True)
class Verdict:
    """How one file, run by one backend, compares with the FP32 graph on onnxruntime's CPU provider.

    Attributes:
        path: the file in the bundle.
        backend: what ran it.
        precision: number format it computes in.
        n: number of images; 0 if it cannot run here.
        max_difference: largest difference of a logit.
        agreement: share of images with the same answer.
        accuracy: share of right answers.
        drop: the reference's accuracy minus this one's, in points.
        p: McNemar's exact p of the two accuracies.
        fault: what is wrong with it, in one line; empty if nothing.
        reason: why it cannot run here; empty if it ran.
    """

    path: str
    backend: str
    precision: Precision
    n: int = 0
    max_difference: float = 0.0
    agreement: float = 0.0
    accuracy: float = 0.0
    drop: float = 0.0
    p: float = 1.0
    fault: str = ""
    reason: str = ""


def verify(
    bundle: Bundle,
    images: ImageSet,
    max_drop: float = MAX_DROP,
    track: Track = no_progress,
    asked: Collection[str] = (),
    reference: NDArray[np.float32] | None = None,
) -> tuple[Verdict, ...]:
    """Compare every (file, backend) pair of ``bundle`` with its FP32 graph on onnxruntime's CPU provider.

    A pair is at fault if it loses more than ``max_drop`` points and McNemar's test gives chance less than 5 %, if it
    computes in FP32 and a logit differs by more than a thousandth of the largest, if a logit is not finite, or if the
    file cannot be opened by onnxruntime's CPU provider, which has every operator; what another backend refuses, it has
    a reason for. What runs code out of the bundle (``BY_NAME``) is left out but for those ``asked`` for. ``reference``
    are the logits (N, K) of that graph, where they are known.

    Raises:
        SpecError: the data set has other classes than the model, or was fitted by another recipe.
        BundleError: the FP32 graph is missing or cannot be opened.
        BackendUnavailable: the reference cannot run here.
        AccuracyError: the reference answers NaN.
    """
    if not 0 <= max_drop <= 100:  # NaN too: every comparison with it would pass
        raise ConfigError(f"expected --max-drop of 0 to 100 points, found {max_drop}; give 0.5 if in doubt")
    spec = bundle.manifest.model
    check_labels(spec, images)
    fitted = fit_images(images, spec.preprocessing)
    graph = _reference(bundle)
    if reference is None:
        reference = _logits(bundle, graph, _REFERENCE, fitted)
    known = {(graph.path, _REFERENCE): reference}
    pairs = [(entry, backend) for entry in bundle.entries for backend in entry.backends]
    return tuple(
        Verdict(entry.path, backend, entry.precision or Precision.FP32, reason=why_unasked(backend))
        if backend in BY_NAME and backend not in asked
        else _judge(
            bundle, entry, backend, fitted, images.labels, reference, max_drop, known.get((entry.path, backend))
        )
        for entry, backend in track(pairs, "verifying", len(pairs))
    )


def _reference(bundle: Bundle) -> Entry:
    for entry in bundle.entries:
        if entry.kind == "onnx" and entry.precision is Precision.FP32:
            return entry
    raise BundleError(f"expected an FP32 ONNX graph in {bundle.path}, found none; compile it again")


def _logits(bundle: Bundle, entry: Entry, backend: str, fitted: NDArray[np.uint8]) -> NDArray[np.float32]:
    with open_session(backend, model_of(bundle, entry, backend), bundle.manifest.model) as session:
        return run_images(session, fitted)


def _judge(
    bundle: Bundle,
    entry: Entry,
    backend: str,
    fitted: NDArray[np.uint8],
    labels: NDArray[np.int64],
    reference: NDArray[np.float32],
    max_drop: float,
    known: NDArray[np.float32] | None,
) -> Verdict:
    precision = entry.precision or Precision.FP32
    if reason := why_not(entry, backend):
        return Verdict(entry.path, backend, precision, reason=reason)
    try:
        logits = known if known is not None else _logits(bundle, entry, backend, fitted)
    except (BackendUnavailable, BundleError, AccuracyError) as error:
        refused = isinstance(error, BackendUnavailable) or (isinstance(error, BundleError) and backend != _REFERENCE)
        if refused:
            return Verdict(entry.path, backend, precision, reason=str(error))
        return Verdict(entry.path, backend, precision, n=len(labels), fault=str(error))
    answers, expected = logits.argmax(axis=1), reference.argmax(axis=1)
    right, right_before = answers == labels, expected == labels
    difference = float(np.abs(logits - reference).max())
    drop = 100 * float(right_before.mean() - right.mean())
    p = mcnemar(right_before, right).p
    fault = ""
    if drop > max_drop and p < _CHANCE:
        fault = f"it loses {drop:.2f} points (p = {p:.2g}), more than {max_drop} allowed"
    elif precision is Precision.FP32 and difference > _FP32_TOLERANCE * max(1.0, float(np.abs(reference).max())):
        fault = f"a logit differs by {difference:.2g}, more than FP32 arithmetic explains"
    return Verdict(
        path=entry.path,
        backend=backend,
        precision=precision,
        n=len(labels),
        max_difference=difference,
        agreement=float((answers == expected).mean()),
        accuracy=float(right.mean()),
        drop=drop,
        p=p,
        fault=fault,
    )

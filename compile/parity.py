"""Whether an exported graph answers as PyTorch does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.errors import AccuracyError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import fit_images, normalize

from .source import Source

_IMAGES = 256
_TOLERANCE = 1e-4  # of the largest logit: FP32 sums in another order


def check_against_eager(source: Source, validation: ImageSet) -> dict[str, Any] | None:
    """Compare the graph with PyTorch eager on real images; ``None`` for a source that has no PyTorch side.

    Raises:
        AccuracyError: a logit differs by more than ten thousandths of the largest.
    """
    if source.checkpoint is None:
        return None
    from .export import eager_logits

    batch = some_input(source, validation)
    expected = eager_logits(source.checkpoint, batch)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        difference = float(np.abs(session.run(batch) - expected).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise AccuracyError(
            f"expected the exported graph to answer as PyTorch eager does, but a logit differs by {difference:.2g}; "
            "this is a fault of the exporter: please report it with the model"
        )
    return {"n": len(batch), "max_difference": difference}


def some_input(source: Source, validation: ImageSet) -> NDArray[np.float32]:
    """Return the first images as the network takes them, float32 (N, C, H, W)."""
    recipe = source.spec.preprocessing
    some = validation.take(np.arange(min(_IMAGES, len(validation))))
    return normalize(fit_images(some, recipe), recipe, source.spec.channels)

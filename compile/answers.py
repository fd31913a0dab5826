"""What graphs answer on the same images: the ground on which precisions are compared."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.device import processor
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.predict import run_images
from quillrt.runtime.preprocessing import fit_images
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.versions import versions
from quillrt.train.evaluation import check_labels

if TYPE_CHECKING:
    import onnx


class Answers:
    """Runs graphs of one spec on onnxruntime's CPU provider.

    Args:
        graph: that which all others are held against.
        spec: input and preprocessing of the graphs.
        images: what they run on.
        cache: keeps what they answered.

    Attributes:
        fitted: the images as bytes (N, H, W).
        labels: their classes (N,).

    Raises:
        SpecError: the images have other classes than the model, or another recipe than the spec's fitted them.
    """

    def __init__(self, graph: onnx.ModelProto, spec: ModelSpec, images: ImageSet, cache: Cache = NO_CACHE) -> None:
        check_labels(spec, images)
        self._graph, self._spec, self._cache = graph, spec, cache
        self.fitted, self.labels = fit_images(images, spec.preprocessing), images.labels
        self._ingredients = (
            hashlib.sha256(self.fitted.tobytes()).hexdigest(),
            repr((spec.preprocessing, self.fitted.shape, processor())),
            repr(versions("quillrt", "onnxruntime")),
        )

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """The logits, float32 (N, K), of ``graph``; errors as for ``logits``."""
        return self.logits(self._graph)

    def logits(self, graph: onnx.ModelProto) -> NDArray[np.float32]:
        """Return the logits, float32 (N, K).

        Raises:
            BundleError: onnxruntime refuses the graph.
            AccuracyError: a logit is NaN or infinite.
        """
        model = graph.SerializeToString(deterministic=True)

        def run() -> bytes:
            with open_session("onnxruntime-cpu", model, self._spec) as session:
                return run_images(session, self.fitted).tobytes()

        kept = self._cache.made(run, "logits", hashlib.sha256(model).hexdigest(), *self._ingredients)
        return np.frombuffer(kept, np.float32).reshape(len(self.fitted), -1)

"""A model behind a queue: image files in, predictions out, whoever asks and however many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .batching import Batcher, Batching
from .confidence import Confidence
from .errors import BackendUnavailable, ConfigError, SpecError
from .images import read_image
from .predict import Prediction, predict_fitted, predict_prepared
from .prepare import AUTO, Prepared, prepare_file
from .preprocessing import fit_image
from .session import Session


@dataclass(frozen=True)
class Served:
    """A prediction with all labels, and the image as the network got it, uint8 (height, width)."""

    prediction: Prediction
    fitted: NDArray[np.uint8]

    def top(self, count: int) -> Prediction:
        """Return the prediction with the ``count`` likeliest labels."""
        return replace(self.prediction, top=self.prediction.top[:count])


class Service:
    """Recognizes images for many at a time: reads and fits them in a pool of threads, runs them in batches.

    ``async with`` opens it; leaving drains it. The session stays the caller's to close.
    """

    def __init__(
        self,
        session: Session,
        confidence: Confidence,
        batching: Batching,
        max_pixels: int,
        watch: Callable[[int, float], None],
        way: str = AUTO,
        failed: Callable[[BackendUnavailable], None] = lambda error: None,
    ) -> None:
        """Say what runs and how.

        ``watch`` is told the size of each batch and the seconds it took, ``failed`` that the device failed.
        """
        self._session, self._confidence, self._max_pixels, self._way = session, confidence, max_pixels, way
        self._batcher = Batcher(self._fit, self._run, batching, watch, failed)

    @property
    def held(self) -> int:
        """How many images are accepted and not yet answered."""
        return self._batcher.held

    @property
    def busy_seconds(self) -> float:
        """How long the engine has had its present batch; 0 while it has none."""
        return self._batcher.busy_seconds

    async def __aenter__(self) -> Service:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._batcher.__aexit__(kind, error, trace)

    async def recognize(self, images: Sequence[bytes]) -> list[Served]:
        """Return a prediction for each image file's content, in order; they are named by their number.

        Raises:
            QueueFull: there is no room for all of them.
            ImageError: one is no image, damaged or too large; none is answered then.
            BackendUnavailable: the device failed, now or before: nothing is recognized any more.
            QuillError: the engine failed.
        """
        return await self._batcher.submit(list(enumerate(images)))

    def _fit(self, numbered: tuple[int, bytes]) -> tuple[str, Prepared]:
        number, data = numbered
        recipe = self._session.spec.preprocessing
        return str(number), prepare_file(data, recipe, self._way, f"image {number}", self._max_pixels)

    def _run(self, named: list[tuple[str, Prepared]]) -> list[Served]:
        labels = len(self._session.spec.labels)
        found = predict_prepared(self._session, named, labels, len(named), self._confidence)
        return [Served(prediction, image.fitted) for prediction, (_, image) in zip(found, named, strict=True)]


def warm_up(session: Session, max_batch: int) -> None:
    """Read a blank image and run it, one and ``max_batch`` at a time: what would fail or be slow at first does so now.

    Raises:
        ConfigError: the engine does not take batches of this size.
        QuillError: it fails.
    """
    recipe = session.spec.preprocessing
    blank = BytesIO()
    Image.new("L", (recipe.width, recipe.height)).save(blank, "PNG")
    fitted = fit_image(read_image(blank.getvalue()), recipe)
    for count in sorted({1, max_batch}):
        try:
            list(predict_fitted(session, [""] * count, np.stack([fitted] * count), 1, Confidence()))
        except SpecError as error:
            raise ConfigError(
                f"expected an engine that takes {count} images at a time, but {error}; lower --max-batch"
            ) from error

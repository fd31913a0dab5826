"""A bundle opened for Python programs: images of any kind in, labels and probabilities out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .bundle import Bundle
from .cache import Cache, default_folder
from .channels import channels
from .confidence import AS_IT_IS, Confidence
from .errors import ConfigError, ImageError
from .images import damage_refused, open_image, turned
from .manifest import Entry
from .precision import Precision
from .predict import Prediction, predict_prepared
from .prepare import AUTO, Prepared, check_way, longest_side, prepare
from .pretrained import PREFIX, find
from .reading import Reading, read_page
from .select import open_fitting
from .session import Session, SessionOptions
from .spec import ModelSpec

_CHANNELS = (1, 3, 4)
_BATCH = 64

AnImage: TypeAlias = str | PathLike[str] | bytes | bytearray | Image.Image
Images: TypeAlias = AnImage | NDArray[Any] | Iterable[AnImage | NDArray[Any]]


class Recognizer:
    """A model that is ready; ``with`` closes it.

    Threads may share it: they prepare their images at the same time, and take turns at the model.

    Attributes:
        entry: the file of the bundle that runs.
        backend: what runs it.
    """

    def __init__(
        self,
        session: Session,
        entry: Entry,
        backend: str,
        confidence: Confidence = AS_IT_IS,
        preprocessing: str = AUTO,
    ) -> None:
        self.entry, self.backend, self._confidence, self._way = entry, backend, confidence, preprocessing
        self._session = _OneAtATime(session)

    @property
    def spec(self) -> ModelSpec:
        """What goes in and comes out, and how images become that."""
        return self._session.spec

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.spec.labels

    @overload
    def predict(self, images: AnImage, *, top_k: int = 1) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: NDArray[Any], *, top_k: int = 1) -> Prediction | list[Prediction]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[AnImage | NDArray[Any]], *, top_k: int = 1) -> list[Prediction]: ...
    def predict(self, images: Images, *, top_k: int = 1) -> Prediction | list[Prediction]:
        """Recognize one image, or each of several.

        Args:
            images: a path, a file's bytes, a Pillow image, an array (H, W) or (H, W, C) with C of 1, 3 or 4; or several
                of these, or an array (N, H, W), (N, C, H, W) or (N, H, W, C). Arrays are uint8, bool, or floats from 0
                to 1; ink may be light or dark, as for ``quillrt run``.
            top_k: how many labels, the likeliest first.

        Returns:
            A prediction for one image, a list of them for several; those of arrays are named by their number.

        Raises:
            ImageError: what is given is no image.
            ConfigError: ``top_k`` is below 1, or this is closed.
            BackendUnavailable: the device failed.
        """
        if not (isinstance(top_k, int) and top_k >= 1):
            raise ConfigError(f"expected top_k of 1 or more, found {top_k!r}")
        recipe = self.spec.preprocessing
        opened, is_one = _opened(images, longest_side(recipe, self._way))
        prepared = ((name, self._prepared(name, image)) for name, image in opened)
        found = list(predict_prepared(self._session, prepared, top_k, _BATCH, self._confidence))
        return found[0] if is_one else found

    def read(self, page: AnImage | NDArray[Any], *, top_k: int = 1) -> Reading:
        """Read an image with one line of characters or several, as `quillrt read` does; boxes are in its own pixels.

        Args:
            page: one image, as for ``predict``.
            top_k: how many labels for each character, the likeliest first.

        Raises:
            ImageError: what is given is no image.
            ConfigError: ``top_k`` is below 1, or this is closed.
            BackendUnavailable: the device failed.
        """
        if not (isinstance(top_k, int) and top_k >= 1):
            raise ConfigError(f"expected top_k of 1 or more, found {top_k!r}")
        name, image = _open_one(page, 0)
        with damage_refused(_called(name)):
            seen = channels(image)
        return read_page(self._session, seen, self._confidence, top_k, _BATCH)

    def _prepared(self, name: str, image: Image.Image) -> Prepared:
        with damage_refused(_called(name)):
            return prepare(image, self.spec.preprocessing, self._way)

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._session.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _OneAtATime(Session):
    """A session that several threads share."""

    def __init__(self, session: Session) -> None:
        self._session, self._lock, self._is_open = session, threading.Lock(), True

    @property
    def spec(self) -> ModelSpec:
        return self._session.spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._lock:
            if not self._is_open:
                raise ConfigError("expected an open recognizer, found a closed one: open another")
            return self._session.run(batch)

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._session.close()


def open_recognizer(
    bundle: str | PathLike[str],
    backend: str | None = None,
    precision: Precision | str | None = None,
    options: SessionOptions = SessionOptions(batch_sizes=(1,)),
    signature_key: str | PathLike[str] | None = None,
    preprocessing: str = AUTO,
) -> Recognizer:
    """Open the file of ``bundle`` that is the likely fastest here, as ``quillrt run`` does.

    Args:
        bundle: path of a ``.quill`` bundle, or ``models:NAME`` for one that comes with quillrt.
        backend: the only one to try; ``None``: the first that works.
        precision: the only one to try.
        options: of the session.
        signature_key: PEM file of the public key that the bundle must be signed for; ``None``: what the environment's
            ``QUILLRT_REQUIRE_SIGNATURE`` asks for.
        preprocessing: ``auto``, ``as-is`` or ``photo``, as for ``prepare.prepare``.

    Raises:
        BundleError: there is no whole bundle, or it is not signed as it must be.
        BackendUnavailable: nothing in it runs here; the message says why for each file.
        ConfigError: no backend, precision, preprocessing or model has that name, or there is no such key.
    """
    check_way(preprocessing)
    given = str(bundle)
    path = find(given.removeprefix(PREFIX), ".quill") if given.startswith(PREFIX) else Path(given)
    wanted = Precision.parse(precision) if isinstance(precision, str) else precision
    opened = Bundle.open(path, None if signature_key is None else Path(signature_key))
    session, entry, chosen = open_fitting(opened, backend, wanted, options, Cache(default_folder()))
    return Recognizer(session, entry, chosen, opened.manifest.confidence, preprocessing)


def _opened(images: Images, longest: int | None) -> tuple[Iterator[tuple[str, Image.Image]], bool]:
    """Return names and images, opened one by one as for ``images.open_image``, and whether one alone was given."""
    if isinstance(images, np.ndarray):
        several, is_one = _split(images)
        return ((str(number), _image_of(each)) for number, each in enumerate(several)), is_one
    if isinstance(images, str | PathLike | bytes | bytearray | Image.Image):
        return iter([_open_one(images, 0, longest)]), True
    if not isinstance(images, Iterable) or isinstance(images, Mapping) or hasattr(images, "read"):
        raise ImageError(
            f"expected an image or several (path, bytes, Pillow image, array), found {type(images).__name__}"
        )
    return (_open_one(image, number, longest) for number, image in enumerate(images)), False


def _open_one(image: object, number: int, longest: int | None = None) -> tuple[str, Image.Image]:
    if isinstance(image, np.ndarray):
        several, is_one = _split(image)
        if not is_one:
            raise ImageError(
                f"expected image {number} of shape (H, W) or (H, W, C), found {image.shape}; give the array itself"
            )
        return str(number), _image_of(several[0])
    if isinstance(image, Image.Image):
        return str(number), _decoded(image, number)
    if isinstance(image, bytes | bytearray):
        return str(number), open_image(bytes(image), f"image {number}", longest=longest)
    if isinstance(image, str | PathLike):
        return str(image), open_image(Path(image), longest=longest)
    kind = type(image).__name__
    raise ImageError(f"expected a path, bytes, a Pillow image or an array as image {number}, found {kind}")


def _called(name: str) -> str:
    """Return what messages call an image: by its number if it has no path."""
    return f"image {name}" if name.isdecimal() else name


def _decoded(image: Image.Image, number: int) -> Image.Image:
    with damage_refused(f"image {number}"):
        return turned(image)  # Pillow decodes only now


def _split(array: NDArray[Any]) -> tuple[list[NDArray[Any]], bool]:
    """Return images (H, W) or (H, W, C), and whether ``array`` is one alone."""
    shape = array.shape
    if array.ndim == 2 or (array.ndim == 3 and shape[2] in _CHANNELS and shape[0] > _CHANNELS[-1]):
        return [array], True
    if array.ndim == 3:
        return list(array), False
    if array.ndim == 4 and (shape[1] in _CHANNELS) != (shape[3] in _CHANNELS):
        return list(array if shape[3] in _CHANNELS else array.transpose(0, 2, 3, 1)), False
    raise ImageError(
        "expected an array of shape (H, W), (H, W, C), (N, H, W), (N, C, H, W) or (N, H, W, C) with C of 1, 3 or 4, "
        f"found {shape}; add or drop an axis"
    )


def _image_of(image: NDArray[Any]) -> Image.Image:
    """Return an image (H, W) or (H, W, C) as Pillow has it."""
    if 0 in image.shape:
        raise ImageError(f"expected an image with pixels, found one of shape {image.shape}")
    if image.dtype == np.bool_:
        levels = image.astype(np.uint8) * 255
    elif np.issubdtype(image.dtype, np.floating):
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise ImageError(
                f"expected floats from 0 to 1, found {image.min():g} to {image.max():g}; scale them, or give uint8"
            )
        levels = np.rint(image * 255).astype(np.uint8)
    elif image.dtype == np.uint8:
        levels = image
    else:
        raise ImageError(f"expected an array of uint8, bool or floats from 0 to 1, found {image.dtype}; convert it")
    if levels.ndim == 2 or levels.shape[2] == 1:
        levels = levels.reshape(levels.shape[:2])
    return Image.fromarray(np.ascontiguousarray(levels))

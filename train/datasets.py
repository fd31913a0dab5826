"""Every data set by name, in fixed parts for training, validation and test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quillrt.runtime.errors import ConfigError, DataError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.prepare import AS_IS, PHOTO, prepare
from quillrt.runtime.preprocessing import Preprocessing, fit_images
from quillrt.runtime.spec import ModelSpec

from .digits import read_digits
from .folder import read_folder
from .splitting import hold_out
from .torchvision_files import SOURCES, read_source

_FOLDER = "folder:"
_VALIDATION = 5_000  # images of MNIST-like training parts that are held out


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of one data set, and the preprocessing that suits it.

    Its mean and deviation are those of the training part once it is fitted. A part may be as it came: ``fit_images``
    fits what is not.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    preprocessing: Preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """The label names, the same for all parts."""
        return self.train.classes

    def part(self, name: str) -> ImageSet:
        """Return the part called ``train``, ``validation`` or ``test``, or ``all`` three of them in this order.

        Raises:
            ConfigError: there is no such part.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        if name == "all":
            images, labels = ([getattr(part, field) for part in parts.values()] for field in ("images", "labels"))
            return replace(self.train, images=np.concatenate(images), labels=np.concatenate(labels))
        if name not in parts:
            raise ConfigError(f"expected a part out of {', '.join(parts)}, all, found {name!r}")
        return parts[name]

    def only(self, classes: Sequence[str]) -> Splits:
        """Return the images of ``classes`` alone, labelled in that order.

        Raises:
            ConfigError: fewer than two classes, one twice, or one the data set does not have.
        """
        unknown = [name for name in classes if name not in self.classes]
        if unknown or len(set(classes)) != len(classes) or len(classes) < 2:
            raise ConfigError(
                f"expected two or more different classes out of {', '.join(self.classes)}; found {', '.join(classes)}"
            )
        new_label = np.full(len(self.classes), -1)
        new_label[[self.classes.index(name) for name in classes]] = np.arange(len(classes))

        def chosen(part: ImageSet) -> ImageSet:
            labels = new_label[part.labels]
            return replace(part, images=part.images[labels >= 0], labels=labels[labels >= 0], classes=tuple(classes))

        return replace(self, train=chosen(self.train), validation=chosen(self.validation), test=chosen(self.test))


def load_dataset(
    name: str, data_root: Path | None = None, recipe: Preprocessing = Preprocessing(), way: str = AS_IS
) -> Splits:
    """Return the data set ``name``; the same images lie in the same parts every time.

    Args:
        name: ``digits``, a name in ``SOURCES``, or ``folder:PATH`` with one folder of images per class.
        data_root: folder in torchvision's layout, may be read-only; by default the environment's ``QUILLRT_DATA``, else
            ``quillrt`` in the user's cache, where what lacks is downloaded to.
        recipe: size and denoising of the images; a trained model wants its own. A folder's images, which have any size,
            are fitted by it at once; other data sets stay as they came and have a ``fit`` of their own.
        way: how a folder's images are prepared, as for ``prepare.prepare``.

    Raises:
        DataError: unknown name, or the data cannot be had or are damaged.
        ImageError: an image of a folder cannot be read.
    """
    if name in SOURCES:
        train, test = read_source(name, data_root or _default_root())
        recipe = replace(recipe, fit=SOURCES[name].fit)
        return _with_validation(train, test, min(_VALIDATION, len(train) // 10), recipe)
    if name == "digits":
        images, recipe = read_digits(), replace(recipe, fit="character")
    elif name.startswith(_FOLDER):
        images = read_folder(Path(name.removeprefix(_FOLDER)).expanduser(), recipe, way)
    else:
        raise DataError(f"expected a data set out of digits, {', '.join(SOURCES)} or {_FOLDER}PATH, found {name!r}")
    fifth = round(len(images) / 5)
    rest, test = hold_out(images, fifth)
    return _with_validation(rest, test, fifth, recipe)


def load_dataset_for(
    spec: ModelSpec,
    training: Mapping[str, Any],
    name: str | None,
    data_root: Path | None = None,
    way: str = AS_IS,
) -> tuple[str, Splits]:
    """Return the name and the parts of a data set for a model: of its classes, in its order, folders fitted its way.

    Args:
        spec: the model's.
        training: the record of its training; where ``name`` is ``None``, the data set is the one it names.
        name: as for ``load_dataset``.
        data_root: as for ``load_dataset``.
        way: as for ``load_dataset``.

    Raises:
        ConfigError: no name is given and none recorded, or the data set lacks a label.
        DataError: see ``load_dataset``.
    """
    name = name or recorded_name(training)
    if name is None:
        raise ConfigError("expected --dataset, for this model does not say what it was trained on; try --dataset mnist")
    splits = load_dataset(name, data_root, spec.preprocessing, way)
    if lacking := [label for label in spec.labels if label not in splits.classes]:
        raise ConfigError(
            f"expected a data set with the model's labels, found {name} without {' '.join(lacking)}; "
            "give --dataset as the model was trained on"
        )
    return name, splits if splits.classes == spec.labels else splits.only(spec.labels)


def as_photographs(images: ImageSet, recipe: Preprocessing) -> ImageSet:
    """Return the images of a data set fitted by ``recipe`` as if each were a photograph, a folder's as they are."""
    if images.fitted is not None:
        return images
    fitted = [prepare(Image.fromarray(image), recipe, PHOTO).fitted for image in images.images]
    return replace(images, images=np.stack(fitted), fitted=recipe)


def public_name(name: str) -> str:
    """Return a data set's name as artefacts may bear it: a folder by its own name, not by where it lies here."""
    return _FOLDER + Path(name.removeprefix(_FOLDER)).resolve().name if name.startswith(_FOLDER) else name


def recorded_name(training: Mapping[str, Any]) -> str | None:
    """Return the data set that the record of a training names, ``None`` if it names none.

    Raises:
        ConfigError: it names a folder, whose path is not recorded.
    """
    name: str | None = training.get("dataset")
    if name is not None and name.startswith(_FOLDER):
        folder = name.removeprefix(_FOLDER)
        raise ConfigError(f"expected --dataset folder:PATH, for this model was trained on a folder called {folder!r}")
    return name


def _default_root() -> Path:
    if root := os.environ.get("QUILLRT_DATA"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quillrt"


def _with_validation(rest: ImageSet, test: ImageSet, count: int, recipe: Preprocessing) -> Splits:
    train, validation = hold_out(rest, count)
    if not (len(train) and len(validation) and len(test)):
        raise DataError(
            f"expected images for train, validation and test, but there are only {len(rest) + len(test)}; add some"
        )
    mean, std = _mean_and_std(fit_images(train, recipe))
    if std == 0:
        raise DataError(
            f"expected images with ink, but all {len(train)} training images are of one grey level; check them"
        )
    return Splits(train, validation, test, replace(recipe, mean=mean, std=std))


def _mean_and_std(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return mean and standard deviation of the grey levels as 0..1, to the four digits that people quote."""
    histogram = np.zeros(256, np.int64)
    for chunk in np.array_split(images, 1 + len(images) // 10_000):  # bincount makes eight bytes of each one
        histogram += np.bincount(chunk.ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=histogram)
    std = np.sqrt(np.average((levels - mean) ** 2, weights=histogram))
    return round(float(mean), 4), round(float(std), 4)

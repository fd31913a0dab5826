"""Your own images: one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quillrt.runtime.errors import DataError, ImageError
from quillrt.runtime.images import find_images
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.prepare import AS_IS, prepare_file
from quillrt.runtime.preprocessing import Preprocessing

_FEWEST = 3  # one image of each class for each of train, validation and test


def read_folder(path: Path, recipe: Preprocessing, way: str = AS_IS) -> ImageSet:
    """Return the images below each folder in ``path``, fitted by ``recipe``; the folders' sorted names are the classes.

    Args:
        path: the folder of folders.
        recipe: the model's.
        way: how images are prepared, as for ``prepare.prepare``.

    Raises:
        DataError: no folder, none inside it, or one with fewer than three images.
        ImageError: a file is no whole image.
    """
    if not path.is_dir():
        raise DataError(f"expected a folder with one folder of images per class, but {path} is none; check the path")
    folders = sorted(inside for inside in path.iterdir() if inside.is_dir() and not inside.name.startswith("."))
    if len(folders) < 2:
        raise DataError(
            f"expected at least two folders, one per class, but {path} holds {len(folders)}; "
            f"lay the images as {path}/CLASS/IMAGE.png"
        )
    files = [(file, label) for label, folder in enumerate(folders) for file in _images_in(folder)]
    images = np.stack([prepare_file(file, recipe, way).fitted for file, _ in files])
    labels = np.array([label for _, label in files])
    return ImageSet(images, labels, tuple(folder.name for folder in folders), recipe)


def _images_in(folder: Path) -> list[Path]:
    try:
        files = list(find_images([folder]))
    except ImageError as error:
        raise DataError(str(error)) from error
    if len(files) < _FEWEST:
        raise DataError(
            f"expected at least {_FEWEST} images of each class (train, validation and test need one each), "
            f"but {folder} holds {len(files)}; add images or remove the folder"
        )
    return files

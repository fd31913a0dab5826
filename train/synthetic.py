"""A set of generated images on disk: one folder per class, a contact sheet, and the record of how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from PIL import Image

from quillrt.runtime.errors import DataError, ImageError
from quillrt.runtime.files import check_free, folder_written_whole, write_text
from quillrt.runtime.images import find_images, read_image
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import fit_images

from .contact_sheet import contact_sheet

RECORD = "synthetic.json"
_SHOWN = 10  # images of each class on the contact sheet


def write_synthetic(folder: Path, images: ImageSet, record: Mapping[str, Any], title: str = "") -> None:
    """Write ``images`` to ``folder``, all of it or nothing.

    It then holds ``CLASS/00001.png`` and so on, the class's name percent-encoded where it would be no file name;
    ``contact.png`` with the first images of each class; and ``synthetic.json`` with ``record``.

    Raises:
        ConfigError: see ``check_free``.
        OSError: the folder cannot be written.
    """
    check_free(folder)
    with folder_written_whole(folder) as beside:
        for label, name in enumerate(images.classes):
            inside = beside / quote(name, safe="")
            inside.mkdir()
            for number, index in enumerate(np.flatnonzero(images.labels == label), 1):
                Image.fromarray(images.images[index]).save(inside / f"{number:05}.png")
        shown = [np.flatnonzero(images.labels == label)[:_SHOWN] for label in range(len(images.classes))]
        sheet = images.take(np.concatenate(shown))
        captions = [images.classes[label] for label in sheet.labels]
        contact_sheet(beside / "contact.png", sheet.images, captions, max(map(len, shown)), title)
        write_text(beside / RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_synthetic(path: Path, classes: Sequence[str], height: int, width: int) -> ImageSet:
    """Return the images that ``write_synthetic`` wrote to ``path``, labelled in the order of ``classes``.

    Raises:
        DataError: no such folder, other classes in it, one without images, or images of another size.
        ImageError: a file is no whole image.
    """
    if not path.is_dir():
        raise DataError(f"expected a folder of synthetic images, but {path} is none; make one with quillrt synthesize")
    folders = {unquote(each.name): each for each in sorted(path.iterdir()) if each.is_dir() and each.name[0] != "."}
    if set(folders) != set(classes):
        raise DataError(
            f"expected synthetic images of the classes {', '.join(classes)}, "
            f"but {path} has {', '.join(folders) or 'none'}; make them from the same data set and classes"
        )
    images, labels = [], []
    for label, name in enumerate(classes):
        for file in _images_in(folders[name]):
            image = read_image(file)
            if image.shape != (height, width):
                raise DataError(
                    f"expected synthetic images of {height} x {width}, but {file} has "
                    f"{image.shape[0]} x {image.shape[1]}; make them from the same data set with the same --size"
                )
            images.append(image)
            labels.append(label)
    return ImageSet(np.stack(images), np.array(labels, np.int64), tuple(classes))


def with_synthetic(images: ImageSet, path: Path) -> ImageSet:
    """Return ``images`` and after them those that ``write_synthetic`` wrote to ``path``, of the same classes and size.

    Raises:
        DataError, ImageError: see ``read_synthetic``.
    """
    return joined(images, read_synthetic(path, images.classes, *images.images.shape[1:]))


def joined(real: ImageSet, generated: ImageSet) -> ImageSet:
    """Return ``real`` and after them ``generated``, of the same classes and size; fitted if ``real`` is."""
    if real.fitted is not None:
        generated = replace(generated, images=fit_images(generated, real.fitted))
    return replace(
        real,
        images=np.concatenate([real.images, generated.images]),
        labels=np.concatenate([real.labels, generated.labels]),
    )


def fingerprint(images: ImageSet) -> str:
    """Return the sha256 of images, labels and class names: which ones a set was made from."""
    digest = hashlib.sha256(json.dumps([images.images.shape, images.classes]).encode())
    digest.update(np.ascontiguousarray(images.images).data)
    digest.update(images.labels.astype("<i8").data)
    return digest.hexdigest()


def _images_in(folder: Path) -> list[Path]:
    try:
        return list(find_images([folder]))
    except ImageError as error:
        raise DataError(str(error)) from error

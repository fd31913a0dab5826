"""MNIST and its kin in the raw files that torchvision downloads, read in place."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from zipfile import BadZipFile

import numpy as np

from quillrt.runtime.errors import DataError
from quillrt.runtime.imageset import ImageSet

from .idx import read_idx


@dataclass(frozen=True)
class RawSource:
    """Where torchvision keeps a data set and how its files differ from MNIST's.

    Attributes:
        torch_class: the class in ``torchvision.datasets``, which also names the folder under the root.
        classes: names of the labels in order.
        fit: ``Preprocessing.fit`` for images like these.
        split: EMNIST's name for the choice of classes; its raw images lie transposed.
        first_label: label in the files that means ``classes[0]``.
    """

    torch_class: str
    classes: tuple[str, ...]
    fit: str = "character"
    split: str | None = None
    first_label: int = 0

    def stems(self) -> tuple[str, str]:
        """Return what the names of the training files and of the test files begin with."""
        return ("train", "t10k") if self.split is None else (f"emnist-{self.split}-train", f"emnist-{self.split}-test")


# EMNIST's classes: Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", arXiv 1702.05373, and the
# emnist-*-mapping.txt files beside the data. Balanced merges lower-case letters that look like their capitals.
SOURCES = {
    "mnist": RawSource("MNIST", tuple(digits)),
    "emnist-letters": RawSource("EMNIST", tuple(ascii_uppercase), fit="emnist", split="letters", first_label=1),
    "emnist-balanced": RawSource(
        "EMNIST", tuple(digits + ascii_uppercase + "abdefghnqrt"), fit="emnist", split="balanced"
    ),
    "emnist-byclass": RawSource(
        "EMNIST", tuple(digits + ascii_uppercase + ascii_lowercase), fit="emnist", split="byclass"
    ),
    "kmnist": RawSource("KMNIST", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
    "fashion-mnist": RawSource(
        "FashionMNIST",
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        fit="resize",
    ),
}


def read_source(name: str, root: Path) -> tuple[ImageSet, ImageSet]:
    """Return the official training and test parts of ``SOURCES[name]`` under ``root``, downloaded if they lack.

    Raises:
        DataError: a file is not there and cannot be downloaded, or is damaged.
    """
    source = SOURCES[name]
    raw = root / source.torch_class / "raw"
    if missing := [file for stem in source.stems() for file in _files(stem) if not _find(raw, file)]:
        _download(name, source, root, missing)
    train, test = (_read_part(source, raw, stem) for stem in source.stems())
    return train, test


def _files(stem: str) -> tuple[str, str]:
    return f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"


def _find(raw: Path, file: str) -> Path | None:
    return next((path for path in (raw / file, raw / f"{file}.gz") if path.is_file()), None)


def _read_part(source: RawSource, raw: Path, stem: str) -> ImageSet:
    image_file, label_file = (_find(raw, file) or raw / file for file in _files(stem))
    images = read_idx(image_file, 3)  # (N, 28, 28)
    labels = read_idx(label_file, 1).astype(np.int64) - source.first_label  # (N,)
    if images.shape != (len(labels), 28, 28):
        raise DataError(
            f"expected {len(labels)} images of 28 x 28, as many as {label_file} has labels, "
            f"but {image_file} holds {images.shape}; get both again"
        )
    if source.split is not None:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    return ImageSet(images, labels, source.classes)


def _download(name: str, source: RawSource, root: Path, missing: list[str]) -> None:
    split = {} if source.split is None else {"split": source.split}
    from torchvision import datasets

    there = root.exists()
    try:
        with redirect_stdout(sys.stderr):  # torchvision prints what it does; stdout is for results
            getattr(datasets, source.torch_class)(root, download=True, **split)
    except (OSError, RuntimeError, HTTPException, BadZipFile) as error:
        raw = root / source.torch_class / "raw"
        made = [raw, raw.parent, *([] if there else [root])]
        for folder in made:  # torchvision makes them first; they shall not stay behind empty
            with suppress(OSError):
                folder.rmdir()
        arguments = ", ".join(["'ROOT'", *(f"{key}='{value}'" for key, value in split.items()), "download=True"])
        call = f"from torchvision.datasets import {source.torch_class}; {source.torch_class}({arguments})"
        raise DataError(
            f"expected {name} in {raw}, found no {', '.join(missing)} there, "
            f"plain or .gz, and the download failed ({' '.join(str(error).split())}); where there is a network, run "
            f'python -c "{call}" and give --data-root ROOT'
        ) from error

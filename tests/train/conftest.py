"""Fixtures of the training tests: IDX files written by hand, few digits, an untrained checkpoint."""

import gzip
import struct

import numpy as np
import pytest

from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint
from quillrt.train.datasets import Splits, load_dataset
from quillrt.train.models import build_model
from quillrt.train.seeding import seeded


@pytest.fixture(scope="session")
def idx_bytes():
    """The IDX file of an array of unsigned bytes, by the format's description."""

    def idx_bytes(array):
        header = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        return header + array.astype(np.uint8).tobytes()

    return idx_bytes


@pytest.fixture(scope="session")
def write_raw(idx_bytes):
    """Write images and labels under the names that begin with ``stem``, gzipped if asked."""

    def write_raw(raw, stem, images, labels, gzipped=False):
        raw.mkdir(parents=True, exist_ok=True)
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            data = idx_bytes(array)
            path = raw / f"{stem}-{kind}{'.gz' if gzipped else ''}"
            path.write_bytes(gzip.compress(data) if gzipped else data)

    return write_raw


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="session")
def few_digits(digits):
    """A tenth of the digits: enough to train for a step or two."""
    return Splits(
        digits.train.take(np.arange(128)),
        digits.validation.take(np.arange(32)),
        digits.test.take(np.arange(32)),
        digits.preprocessing,
    )


@pytest.fixture
def untrained(digits):
    """A checkpoint of fresh weights for the digits."""
    with seeded(7):
        module = build_model("cnn", 10)
    return Checkpoint.of(
        "cnn", character_spec(digits.classes, digits.preprocessing), module.state_dict(), {"dataset": "digits"}
    )

"""A short, repeatable fuzzing of every reader; `make fuzz` is the long one."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quillrt.runtime.errors import QuillError

from .mutations import mutate
from .readers import READERS

LIBRARIES = {
    "onnx": ["onnx"],
    "bundle": ["onnx"],
    "manifest": ["onnx"],
    "cache": ["onnx"],
    "flatbuffers": ["onnx", "onnxruntime", "flatbuffers"],
    "result": ["jsonschema"],
    "checkpoint": ["torch", "safetensors"],
    "pth": ["torch"],
}
SEEDS: dict[str, list[bytes]] = {}


def seeds_of(name):
    for library in LIBRARIES.get(name, []):
        pytest.importorskip(library)
    if name not in SEEDS:
        SEEDS[name] = READERS[name].seeds()
    return SEEDS[name]


@pytest.mark.parametrize("name", READERS)
def test_a_whole_file_is_read_and_not_turned_away_unseen(name):
    took = 0
    for data in seeds_of(name):
        with suppress(QuillError):
            READERS[name].read(data)
            took += 1
    # The second graph holds external data; a configuration that is read leads to a bundle that is not there.
    assert took == {"onnx": 1, "config": 0}.get(name, len(seeds_of(name)))


@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_is_read_or_refused_in_one_line(name):
    seeds = seeds_of(name)

    @settings(derandomize=True, max_examples=30 if READERS[name].heavy else 150, deadline=None, database=None)
    @given(st.integers(0, 2**64))
    def fuzz(number):
        random = Random(number)
        data = random.choice(seeds)
        for _ in range(random.choice((1, 1, 2, 4))):
            data = mutate(name, random, data)
        with suppress(QuillError):
            READERS[name].read(data)

    fuzz()

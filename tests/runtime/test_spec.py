import json
from dataclasses import replace

import numpy as np
import pytest

from quillrt.runtime.errors import SpecError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, TensorSpec, character_spec

SPEC = character_spec(("a", "b"), Preprocessing(height=4, width=6, mean=0.25, std=0.5))


def test_a_character_network_reads_one_grey_image_and_answers_a_logit_per_label():
    assert SPEC.input == TensorSpec("image", "float32", (None, 1, 4, 6))
    assert SPEC.output == TensorSpec("logits", "float32", (None, 2))
    assert SPEC.channels == 1
    assert SPEC.input.text() == "(N, 1, 4, 6)"


def test_a_spec_survives_json():
    spec = replace(SPEC, preprocessing=replace(SPEC.preprocessing, denoise=("median", "levels")))

    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_spec_from_before_there_was_denoising_is_read():
    data = json.loads(json.dumps(SPEC.to_json()))
    del data["preprocessing"]["denoise"]

    assert ModelSpec.from_json(data) == SPEC


@pytest.mark.parametrize("label", ["b\nc", "\x1b[2J", "\0", "\ud800", "\u202e"])
def test_a_label_that_cannot_be_printed_is_refused(label):
    with pytest.raises(SpecError, match="labels must be text that can be printed, but one is") as error:
        replace(SPEC, labels=("a", label))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("n", [1, 3, 64])
def test_any_batch_size_fits_a_dynamic_dimension(n):
    SPEC.input.check(np.zeros((n, 1, 4, 6), np.float32))


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 1, 4, 6), np.float64),
        np.zeros((1, 1, 4, 6), np.uint8),
        np.zeros((1, 1, 6, 4), np.float32),
        np.zeros((1, 3, 4, 6), np.float32),
        np.zeros((1, 4, 6), np.float32),
        np.zeros((0, 1, 4, 6), np.float32),
        np.zeros((), np.float32),
    ],
    ids=lambda batch: f"{batch.dtype}{batch.shape}",
)
def test_a_batch_of_another_type_or_shape_is_refused_with_both(batch):
    with pytest.raises(SpecError) as error:
        SPEC.input.check(batch)

    assert "must be float32 of shape (N, 1, 4, 6) and not empty" in str(error.value)
    assert f"{batch.dtype} of shape {batch.shape}" in str(error.value)


@pytest.mark.parametrize("n", [1, 1000])
def test_the_largest_numbers_are_finite(n):
    with np.errstate(all="raise"):
        SPEC.input.check(np.full((n, 1, 4, 6), np.finfo(np.float32).max))


def test_no_dimension_at_all_is_no_shape():
    assert TensorSpec("x", "float32", ())._takes(())
    assert not TensorSpec("x", "float32", (None,))._takes(())
    assert not TensorSpec("x", "float32", ())._takes((3,))


def test_dimensions_beside_the_batch_may_be_dynamic():
    wide = TensorSpec("x", "float32", (2, None))
    assert wide._takes((2, 7))
    assert not wide._takes((3, 7))
    assert not wide._takes((2,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_batch_with_a_value_that_is_no_number_is_refused(value):
    batch = np.zeros((2, 1, 4, 6), np.float32)
    batch[1, 0, 3, 5] = value

    with pytest.raises(SpecError, match="must be finite"):
        SPEC.input.check(batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": SPEC.inputs * 2}, "has 2 inputs and 1 outputs"),
        ({"outputs": ()}, "has 1 inputs and 0 outputs"),
        ({"inputs": (TensorSpec("image", "float16", (None, 1, 4, 6)),)}, "is float16"),
        ({"inputs": (TensorSpec("image", "float32", (None, 4, 6)),)}, r"is float32 \(N, 4, 6\)"),
        ({"inputs": (TensorSpec("image", "float32", (None, 2, 4, 6)),)}, "1 or 3"),
        ({"preprocessing": Preprocessing(4, 4)}, "makes images of 4 x 4"),
        ({"labels": ("a", "b", "c")}, r"must be \(N, 3\) for 3 labels, but is \(N, 2\)"),
        ({"outputs": (TensorSpec("logits", "float32", (None, 2, 1)),)}, r"but is \(N, 2, 1\)"),
    ],
)
def test_what_is_no_image_classifier_is_refused(change, message):
    with pytest.raises(SpecError, match=message):
        replace(SPEC, **change)


@pytest.mark.parametrize("field", ["inputs", "outputs", "labels", "preprocessing"])
@pytest.mark.parametrize("value", ["absent", None, 5, [5], {}, "word"])
def test_a_malformed_spec_is_refused(field, value):
    data = SPEC.to_json()
    del data[field]
    if value != "absent":
        data[field] = value

    with pytest.raises(SpecError):
        ModelSpec.from_json(data)


@pytest.mark.parametrize("value", ["28", None, [28], [["median"]]])
@pytest.mark.parametrize("field", ["height", "width", "mean", "std", "fit", "denoise"])
def test_a_preprocessing_of_other_types_is_refused(field, value):
    data = SPEC.to_json()
    data["preprocessing"][field] = value

    with pytest.raises(SpecError):
        ModelSpec.from_json(data)

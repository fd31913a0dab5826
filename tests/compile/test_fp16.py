"""FP16 graphs against numpy's half precision."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.fp16 import to_fp16
from quillrt.compile.names import clean


def test_weights_are_numpys_half_floats_and_ends_stay_fp32(classifier) -> None:
    original = clean(classifier)
    typed = to_fp16(original)
    onnx.checker.check_model(typed, full_check=True)
    weights = {t.name: numpy_helper.to_array(t) for t in typed.graph.initializer}
    for tensor in original.graph.initializer:
        np.testing.assert_array_equal(weights[tensor.name], numpy_helper.to_array(tensor).astype(np.float16))
    ends = [*typed.graph.input, *typed.graph.output]
    assert {v.type.tensor_type.elem_type for v in ends} == {TensorProto.FLOAT}


def test_answers_differ_by_half_precision_only(classifier) -> None:
    batch = np.random.default_rng(0).normal(size=(16, 1, 8, 8)).astype(np.float32)
    expected, found = (
        ReferenceEvaluator(m).run(None, {"image": batch})[0] for m in (classifier, to_fp16(clean(classifier)))
    )
    difference = np.abs(found - expected).max()
    assert 0 < difference < 20 * 2**-11 * np.abs(expected).max()


def test_weights_beyond_half_precision_are_clipped_not_infinite(classifier) -> None:
    weight = numpy_helper.to_array(classifier.graph.initializer[0]).copy()
    weight[0] = 1e6
    classifier.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "conv.weight"))
    weights = {t.name: numpy_helper.to_array(t) for t in to_fp16(clean(classifier)).graph.initializer}
    assert np.isfinite(weights["conv.weight"]).all()

"""Logits that are kept are those that would be computed, and belong to one graph on one set of images."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from quillrt.compile import answers as module
from quillrt.compile.answers import Answers
from quillrt.runtime.cache import Cache
from quillrt.runtime.errors import SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import fit_images, normalize


@pytest.fixture
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8), np.uint8)
    return ImageSet(pixels, np.arange(7) % 3, ("a", "b", "c"))


def test_answers_are_onnxs_own(spec, images, classifier) -> None:
    batch = normalize(fit_images(images, spec.preprocessing), spec.preprocessing, spec.channels)
    (expected,) = ReferenceEvaluator(classifier).run(None, {"image": batch})
    np.testing.assert_allclose(Answers(classifier, spec, images).logits(classifier), expected, rtol=1e-4, atol=1e-4)


def test_kept_answers_are_given_again_without_a_session(spec, images, classifier, tmp_path, monkeypatch) -> None:
    one, other = classifier, onnx.ModelProto()
    other.CopyFrom(one)
    other.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.ones(4, np.float32), "conv.bias"))
    first = [Answers(classifier, spec, images, Cache(tmp_path)).logits(graph) for graph in (one, other)]
    assert not np.array_equal(*first)
    few = images.take(np.arange(3))
    np.testing.assert_allclose(
        Answers(classifier, spec, few, Cache(tmp_path)).logits(one), first[0][:3], rtol=1e-5, atol=1e-5
    )
    monkeypatch.setattr(module, "open_session", None)  # whoever computes now, fails
    for graph, logits in zip((one, other), first, strict=True):
        np.testing.assert_array_equal(Answers(classifier, spec, images, Cache(tmp_path)).logits(graph), logits)
    with pytest.raises(TypeError):
        Answers(classifier, spec, images.take(np.arange(4)), Cache(tmp_path)).logits(one)


def test_the_graph_that_others_are_held_against_runs_once(spec, images, classifier, monkeypatch) -> None:
    answers = Answers(classifier, spec, images)
    first = answers.reference
    np.testing.assert_array_equal(first, answers.logits(classifier))
    monkeypatch.setattr(module, "open_session", None)  # whoever computes now, fails
    np.testing.assert_array_equal(answers.reference, first)
    with pytest.raises(TypeError):
        answers.logits(classifier)


def test_images_of_other_classes_are_refused(spec, images, classifier) -> None:
    with pytest.raises(SpecError, match="classes"):
        Answers(classifier, spec, ImageSet(images.images, images.labels, ("c", "b", "a")))

import numpy as np
import pytest

from quillrt.benchmarks.agreement import accuracy_of, compare, tolerance
from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.precision import Precision


def test_a_wrong_backend_is_visible():
    reference = np.array([[0, 1], [0, 3], [4, 2]], np.float32)
    same = compare(reference, reference, "r", 0.2)
    assert (same.same_label, same.max_difference, same.relative_error) == (1, 0, 0)
    assert (same.reference, same.tolerance, same.within) == ("r", 0.2, True)
    # A backend that answers with the mean of the right answers knows nothing of the images.
    mean = compare(np.broadcast_to(reference.mean(axis=0), (3, 2)), reference, "r", 0.2)
    assert not mean.within
    assert mean.relative_error == pytest.approx(1)
    assert mean.same_label == pytest.approx(2 / 3)
    assert mean.max_difference == pytest.approx(8 / 3)


def test_the_accuracy_of_four_answers_by_hand():
    """The row is right on images 10 and 30, the reference on 10 and 20."""
    labels, numbers = np.array([0, 1, 0, 1]), np.array([10, 20, 30, 40])
    row, reference = (np.eye(2, dtype=np.float32)[answers] for answers in ([0, 0, 0, 0], [0, 1, 1, 0]))
    found = accuracy_of(row, reference, labels, numbers)
    assert (found.images, found.right, found.wrong) == (4, 2, (20, 40))
    assert (found.only_reference, found.only_this, found.p, found.drop_points) == (1, 1, 1.0, 0.0)
    assert 0 < found.low < 0.5 < found.high < 1


def test_the_coarser_of_two_precisions_explains_the_difference():
    assert tolerance("fp32", "int8") == tolerance("int8", "fp32") == TOLERANCES[Precision.INT8]
    assert tolerance("fp32", None) == TOLERANCES[Precision.FP32] < TOLERANCES[Precision.INT8]

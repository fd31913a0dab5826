import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quillrt.train.reliability import Reliability


def test_bins_and_error_by_hand():
    """Of five bins, (0.4, 0.6] holds 0.5 and 0.6, one right: |0.5 - 0.55|; (0.8, 1] holds 0.9, 0.9, 1, two right:
    |2/3 - 2.8/3|. The error is 2/5 of 0.05 and 3/5 of 0.8/3: 0.18."""
    found = Reliability.of(np.array([0.5, 0.9, 1.0, 0.6, 0.9]), np.array([True, True, False, False, True]), bins=5)
    assert found.counts.tolist() == [0, 0, 2, 0, 3]
    assert found.confidence == pytest.approx([0, 0, 0.55, 0, 2.8 / 3])
    assert found.accuracy == pytest.approx([0, 0, 0.5, 0, 2 / 3])
    assert found.error == pytest.approx(0.18)
    assert found.to_json()[4] == {"n": 3, "confidence": pytest.approx(2.8 / 3), "accuracy": pytest.approx(2 / 3)}


def test_an_edge_belongs_to_the_bin_below():
    """Guo et al. take the intervals ((m - 1) / M, m / M]; 0 is in none of them, and goes to the first."""
    assert Reliability.of(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), np.zeros(5, bool), 4).counts.tolist() == [2, 1, 1, 1]


def test_a_model_as_often_right_as_it_is_sure_has_no_error():
    """Ten answers each at 0.1, 0.2 ... 1.0, of which as many are right."""
    confidences = np.repeat(np.arange(1, 11) / 10, 10)
    right = np.tile(np.arange(10), 10) < np.repeat(np.arange(1, 11), 10)
    assert Reliability.of(confidences, right).error == pytest.approx(0, abs=1e-12)


@settings(deadline=None)  # other work on the machine is no failure
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(arrays(float, n, elements=st.floats(0, 1)), arrays(bool, n))))
def test_error_lies_between_the_whole_sets_gap_and_the_mean_gap(answers):
    """Triangle inequality: bins may only hide differences that single answers have, and show what the whole hides."""
    confidences, right = answers
    found = Reliability.of(confidences, right)
    assert found.counts.sum() == len(right)
    assert abs(confidences.mean() - right.mean()) - 1e-9 <= found.error <= np.abs(confidences - right).mean() + 1e-9
    assert Reliability.of(confidences, right, bins=1).error == pytest.approx(
        abs(confidences.mean() - right.mean()), abs=1e-9
    )

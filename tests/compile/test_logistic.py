"""Our logistic regression against scikit-learn's, and where its matrix has no inverse."""

from __future__ import annotations

import numpy as np
import pytest

from quillrt.compile.logistic import weights_between

LogisticRegression = pytest.importorskip("sklearn.linear_model").LogisticRegression


def two_kinds(distance, scale=1.0, n=(700, 90), columns=5):
    random = np.random.default_rng(4)
    ours, theirs = (random.normal(size=(each, columns)) * scale for each in n)
    return ours, theirs + distance


@pytest.mark.parametrize("ridge", [1.0, 0.01, 1e-4])
@pytest.mark.parametrize(("distance", "scale"), [(0.3, 1), (1, 1), (40, 1), (-3, 30), (0, 1e-3)])
def test_weights_are_scikit_learns(distance, scale, ridge):
    ours, theirs = two_kinds(distance, scale)
    rows, is_ours = np.concatenate([ours, theirs]), np.arange(790) < 700
    model = LogisticRegression(
        C=1 / (ridge * 790), class_weight="balanced", solver="newton-cholesky", tol=1e-10, max_iter=10_000
    )
    expected = model.fit(rows, is_ours).coef_[0]
    np.testing.assert_allclose(weights_between(ours, theirs, ridge), expected, rtol=1e-5, atol=1e-7)


def test_a_kind_of_one_row_and_a_column_that_is_the_same_for_all_have_finite_weights():
    ours = np.pad(np.random.default_rng(0).normal(size=(50, 2)), ((0, 0), (0, 1)), constant_values=3)
    found = weights_between(ours, np.add(ours[:1], (100, 100, 0)), 0.01)
    assert np.isfinite(found).all()
    assert found[0] < 0 > found[1]
    assert found[2] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_heavy_tails_lead_no_step_astray(seed):
    random = np.random.default_rng(seed)
    ours, theirs = (100 * random.standard_cauchy((int(random.integers(2, 40)), 2)) for _ in range(2))
    found, rows = weights_between(ours, theirs, 1e-4), np.concatenate([ours, theirs])
    model = LogisticRegression(C=1 / (1e-4 * len(rows)), class_weight="balanced", solver="newton-cholesky", tol=1e-12)
    expected = model.fit(rows, np.arange(len(rows)) < len(ours)).coef_[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)

import pytest
import torch

from quillrt.train.diff_augment import diff_augment
from quillrt.train.seeding import seeded


@pytest.fixture
def augmented():
    """Two thousand white images of 16 x 24, and what becomes of them."""
    white = torch.ones(2000, 1, 16, 24)
    with seeded(1):
        return diff_augment(white)[:, 0]


def test_brightness_moves_by_half_of_white_at_most(augmented):
    levels = augmented.flatten(1).max(1).values  # white, cut or moved or not, is the brightest
    assert 0.5 <= levels.min() < 0.52
    assert 1.48 < levels.max() <= 1.5
    assert levels.mean() == pytest.approx(1, abs=0.03)


def test_cut_is_grey_and_as_large_as_the_paper_has_it(augmented):
    """At most half of either side, at least a quarter of it: the centre may lie on the edge."""
    cut = augmented == 0
    heights, widths = cut.any(2).sum(1), cut.any(1).sum(1)
    assert heights.max() == 8
    assert widths.max() == 12
    assert heights.min() >= 4 - 2  # moved images are black at the edge, but black is not grey: the cut is whole
    assert (cut.sum((1, 2)) == heights * widths).all()


def test_shift_goes_an_eighth_of_the_side_and_leaves_black(augmented):
    outside = augmented == -1
    whole_rows = (outside | (augmented == 0)).all(2).sum(1)
    assert whole_rows.max() == 2
    assert (outside | (augmented == 0)).all(1).sum(1).max() == 3
    assert 0 < outside.any(2).any(1).float().mean() < 1


def test_gradients_pass_wherever_the_picture_stays():
    images = torch.zeros(64, 1, 16, 16, requires_grad=True)
    with seeded(2):
        diff_augment(images).sum().backward()
    assert images.grad is not None
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    assert (images.grad.sum((1, 2, 3)) >= 16 * 16 - 8 * 8 - 2 * 2 * 16).all()

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from quillrt.runtime.errors import ConfigError
from quillrt.train.augmentation import (
    Blur,
    Erase,
    Geometry,
    Ink,
    Mirror,
    PadAndCrop,
    Shadow,
    Stroke,
    build_augmentation,
)
from quillrt.train.policies import POLICIES, Augmentation, policy
from quillrt.train.seeding import seeded


@pytest.fixture
def batch(digits):
    return torch.from_numpy(digits.train.images[:64])[:, None].float() / 255


def lit(row, column, size=28):
    """One image whose only ink is a square of 3 x 3 pixels about (row, column)."""
    image = torch.zeros(1, 1, size, size)
    image[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 1
    return image


def middle(image):
    return ndimage.center_of_mass(image[0, 0].numpy())


@pytest.fixture
def extreme(monkeypatch):
    """Every draw in -1..1 is 1, every one in 0..1 too."""
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: torch.ones(*shape))


def geometry(**amounts):
    names = ("rotation", "translation", "scale", "shear", "perspective", "elastic")
    return Geometry(*(amounts.get(name, 0.0) for name in names))


def test_nothing_asked_for_is_nothing():
    assert build_augmentation(policy("none")) is None


def test_a_geometry_of_nothing_moves_nothing(batch):
    torch.testing.assert_close(geometry()(batch), batch, atol=1e-5, rtol=0)


def test_rotation_turns_about_the_middle(extreme):
    """A quarter turn takes what lies 8 above the middle to 8 beside it."""
    row, column = middle(geometry(rotation=90)(lit(6, 14)))
    assert abs(row - 13.5) == pytest.approx(0.5, abs=0.1)
    assert abs(column - 13.5) == pytest.approx(7.5, abs=0.1)


def test_translation_moves_by_a_share_of_the_side(extreme):
    row, column = middle(geometry(translation=0.25)(lit(14, 14)))
    assert (row, column) == pytest.approx((14 - 7, 14 - 7), abs=0.1)


def test_scale_grows_each_side(extreme):
    _, column = middle(geometry(scale=0.5)(lit(14, 18)))
    assert column - 13.5 == pytest.approx(1.5 * (18 - 13.5), abs=0.1)


def test_shear_slants_by_columns_per_row(extreme):
    up, down = middle(geometry(shear=0.5)(lit(8, 14))), middle(geometry(shear=0.5)(lit(19, 14)))
    assert up[0] - down[0] == pytest.approx(8 - 19, abs=0.1)
    assert abs(up[1] - down[1]) == pytest.approx(0.5 * (19 - 8), abs=0.2)


def test_perspective_leaves_no_infinite_pixel(batch):
    assert geometry(perspective=1)(batch).isfinite().all()


def test_crop_moves_by_whole_pixels_and_loses_nothing_inside():
    images = lit(14, 14).repeat(200, 1, 1, 1)
    with seeded(0):
        moved = PadAndCrop(3)(images)
    places = {middle(image[None]) for image in moved}
    assert places == {(row, column) for row in range(11, 18) for column in range(11, 18)}
    assert (moved.sum((1, 2, 3)) == 9).all()


def test_mirror_is_a_coin_for_each_image(batch):
    flipped = batch.flip(-1)
    assert torch.equal(Mirror(1.0)(batch), flipped)
    with seeded(0):
        some = Mirror(0.5)(batch)
    kinds = [torch.equal(some[i], batch[i]) for i in range(len(batch))]
    assert 10 < sum(kinds) < 54
    assert all(kinds[i] or torch.equal(some[i], flipped[i]) for i in range(len(batch)))


@pytest.mark.parametrize(("draw", "grey"), [(1.0, ndimage.grey_dilation), (0.0, ndimage.grey_erosion)])
def test_strokes_go_to_the_dilation_and_the_erosion(batch, monkeypatch, draw, grey):
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: torch.full(shape, draw))
    expected = [grey(image[0].numpy(), (3, 3), mode="nearest") for image in batch]
    np.testing.assert_allclose(Stroke(1.0)(batch)[:, 0], expected, atol=1e-6)


def test_erasing_blanks_a_square_of_four_to_ten_pixels():
    with seeded(0):
        erased = Erase(1.0)(torch.ones(500, 1, 64, 64))
    for image in erased[:, 0]:
        rows, columns = (int((image == 0).any(dim).sum()) for dim in (1, 0))
        assert 0 <= rows <= 10
        assert 0 <= columns <= 10
        assert int((image == 0).sum()) == rows * columns
    assert (erased == 0).sum((1, 2, 3)).float().mean() > 30


@pytest.mark.parametrize("transform", [Ink(0.8, 0.8), Blur(2.0), Shadow(0.8)], ids=lambda t: type(t).__name__)
def test_grey_levels_stay_grey_levels(batch, transform):
    varied = transform(batch)
    assert varied.shape == batch.shape
    assert varied.min() >= -1e-6
    assert varied.max() <= 1 + 1e-6
    assert not torch.equal(varied, batch)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"none"}))
def test_a_policy_draws_for_each_image_and_a_seed_repeats_it(name, batch):
    augment = build_augmentation(policy(name))
    same = batch[:1].repeat(8, 1, 1, 1)
    with seeded(1):
        first = augment(same)
    with seeded(1):
        again = augment(same)
    assert torch.equal(first, again)
    assert all(not torch.equal(first[i], first[j]) for i in range(8) for j in range(i))


def test_no_policy_mirrors():
    assert all(amounts.hflip == 0 for amounts in POLICIES.values())


def test_policies_change_by_name():
    assert policy("light", ["rotation=20", "crop=2"]) == Augmentation(20, 0.05, 0.08, 0.08, crop=2)


@pytest.mark.parametrize("change", ["rotate=3", "rotation", "rotation=far", "rotation=nan", "rotation=181", "hflip=2"])
def test_changes_that_cannot_be(change):
    with pytest.raises(ConfigError, match="expected"):
        policy("light", [change])
    with pytest.raises(ConfigError, match="none, light, strong, photo, found 'bold'"):
        policy("bold")


def test_rotation_by_its_angle_is_what_torchvision_does(batch, extreme):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    ours = geometry(rotation=30)(batch)
    theirs = [functional.rotate(batch, sign * 30, InterpolationMode.BILINEAR) for sign in (1, -1)]
    assert min((ours - each).abs().max().item() for each in theirs) < 1e-4
    assert math.isclose(ours.sum().item(), batch.sum().item(), rel_tol=0.05)

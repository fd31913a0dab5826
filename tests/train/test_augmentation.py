"""Each transform against another library, by where ink goes, or by a property; some with its draws held still."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from quillrt.train import augmentation
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
from quillrt.train.policies import POLICIES, Augmentation
from quillrt.train.seeding import seeded

EACH = {
    "rotation": 30,
    "translation": 0.2,
    "scale": 0.3,
    "shear": 0.4,
    "perspective": 0.3,
    "elastic": 0.1,
    "crop": 5,
    "stroke": 1,
    "contrast": 0.5,
    "blur": 1.5,
    "grain": 0.8,
    "shadow": 0.3,
    "noise": 0.1,
    "erasing": 1,
}


@pytest.fixture
def blob():
    """A smooth, lopsided spot in the middle of 28 x 28, far from the border: (1, 1, 28, 28)."""
    spot = np.zeros((28, 28))
    spot[10:18, 12:14] = spot[15:17, 12:19] = 1
    return torch.from_numpy(ndimage.gaussian_filter(spot, 1.2)).float()[None, None]


@pytest.fixture
def full_draws(monkeypatch):
    """Every draw is the largest there is: the whole amount, always the same way."""
    monkeypatch.setattr(augmentation, "_either_way", lambda batch, most: torch.full((len(batch),), float(most)))
    monkeypatch.setattr(augmentation, "_share", lambda batch: torch.ones(len(batch), 1, 1, 1))


def ramps(size):
    """The image whose grey level is its column's coordinate, and that of its rows', -1..1 over the field: (2, 1, S, S).

    Bilinear resampling of a ramp is exact: the level of a pixel tells from where it came.
    """
    along = (torch.arange(size) * 2 + 1) / size - 1
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([columns, rows])[:, None]


def geometry(**amounts):
    names = ("rotation", "translation", "scale", "shear", "perspective", "elastic")
    return Geometry(**{name: amounts.get(name, 0) for name in names})


@pytest.mark.parametrize(
    "transform",
    [geometry(), PadAndCrop(0), Mirror(0), Stroke(0), Ink(0, 0), Shadow(0), Erase(0)],
    ids=lambda t: type(t).__name__,
)
def test_no_amount_changes_nothing(transform):
    batch = torch.rand(4, 1, 20, 28)
    torch.testing.assert_close(transform(batch), batch, rtol=0, atol=1e-5)


def test_no_amounts_are_no_transform():
    assert build_augmentation(Augmentation()) is None


@pytest.mark.parametrize("name", EACH)
def test_every_image_of_a_batch_has_its_own_draw(name, blob):
    augment = build_augmentation(Augmentation(**{name: EACH[name]}))
    with seeded(0):
        found = augment(blob.repeat(40, 1, 1, 1)).flatten(1)
    assert len({tuple(image) for image in found.tolist()}) > 20


@pytest.mark.parametrize("amounts", [*({name: most} for name, most in EACH.items()), {"hflip": 0.5}], ids=str)
def test_shape_and_range_stay_and_a_seed_repeats(amounts):
    augment = build_augmentation(Augmentation(**amounts))
    batch = torch.rand(16, 1, 20, 28).round(decimals=1)
    found = []
    for seed in (1, 1, 2):
        with seeded(seed):
            found.append(augment(batch))
    assert found[0].shape == batch.shape
    assert found[0].dtype == torch.float32
    assert found[0].min() >= 0
    assert found[0].max() <= 1 + 1e-6
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"none"}))
def test_policies_keep_the_range_and_most_of_the_ink(name, blob):
    """Ink is what is lighter than noise and shadow are; no image loses all of it."""
    with seeded(0):
        found = build_augmentation(POLICIES[name])(blob.repeat(200, 1, 1, 1))
    assert 0 <= found.min() <= found.max() <= 1
    ink, before = ((each > 0.25).sum((1, 2, 3)).float() for each in (found, blob))
    assert ink.mean().item() == pytest.approx(before.item(), rel=0.2)
    assert (ink / before).min() > 0.1


def test_transforms_stand_in_the_order_of_paper_pen_and_camera():
    chain = build_augmentation(Augmentation(**{**EACH, "hflip": 1})).transforms
    assert [type(t).__name__ for t in chain] == [
        "Geometry",
        "PadAndCrop",
        "Mirror",
        "Stroke",
        "Ink",
        "Blur",
        "Shadow",
        "GaussianNoise",
        "Erase",
    ]


@pytest.mark.parametrize(
    ("amounts", "other"),
    [
        ({"rotation": 30}, {"angle": -30}),
        ({"translation": 0.125}, {"translate": [-3.5, -3.5]}),
        ({"scale": 0.25}, {"scale": 1.25}),
        ({"shear": math.tan(math.radians(20))}, {"shear": [20.0, 0.0]}),
        ({"rotation": 30, "scale": 0.25}, {"angle": -30, "scale": 1.25}),
    ],
    ids=str,
)
def test_geometry_is_torchvisions_affine(full_draws, blob, amounts, other):
    neutral = {"angle": 0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    expected = v2.affine(blob, **{**neutral, **other}, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(geometry(**amounts)(blob), expected, rtol=0, atol=1e-4)
    assert (expected - blob).abs().max() > 0.05


def test_perspective_looks_where_its_formula_says(full_draws):
    """From (x, y) to (x, y) / (1 + p x + p y), for the part of the field that stays inside."""
    x, y = ramps(29)[:, 0]
    seen_x, seen_y = geometry(perspective=0.2)(ramps(29))[:, 0]
    depth = 1 + 0.2 * x + 0.2 * y
    inside = (torch.maximum(x.abs(), y.abs()) / depth) < 0.95
    assert 0.5 < inside.float().mean() < 1
    torch.testing.assert_close(seen_x[inside], (x / depth)[inside])
    torch.testing.assert_close(seen_y[inside], (y / depth)[inside])


def test_beyond_a_vanishing_point_there_is_ground_not_the_image_again(full_draws):
    """Twice as large, and from (x, y) / (1 + x + y), which comes back into the field where its divisor is below 0."""
    x, y = ramps(41)[:, 0]
    found = geometry(scale=1, perspective=1)(torch.ones(1, 1, 41, 41))[0, 0]
    behind = 1 + x + y < 0
    again = torch.maximum(x.abs(), y.abs()) / 2 < -(1 + x + y)
    assert again.any()
    assert (found[behind] == 0).all()
    assert (found[1 + x + y > 1] > 0.999).all()


def test_elastic_bends_by_a_bicubic_field(monkeypatch):
    with seeded(3):
        nodes = torch.randn(2, 2, 5, 5) / 4
    monkeypatch.setattr(torch, "randn", lambda *shape, device: nodes.reshape(shape))
    image = ramps(24)
    field = functional.interpolate(nodes, (24, 24), mode="bicubic", align_corners=True)
    x, y = (image[i, 0] + 0.1 * field[:, i] for i in (0, 1))  # each (2, 24, 24)
    inside = torch.maximum(x.abs(), y.abs()) < 0.95
    found = geometry(elastic=0.1)(image)[:, 0]
    torch.testing.assert_close(found[0][inside[0]], x[0][inside[0]], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1][inside[1]], y[1][inside[1]], rtol=0, atol=1e-5)
    assert (found - image[:, 0]).abs().max() > 0.02


def test_elastic_has_the_deviation_asked_for():
    """At the middle pixel, which is a node of the field: of 29, where nodes are seven pixels apart."""
    with seeded(0):
        found = geometry(elastic=0.1)(ramps(29)[:1].expand(4000, -1, -1, -1))[:, 0, 14, 14]
    assert found.std().item() == pytest.approx(0.1, rel=0.05)
    assert found.mean().abs().item() < 0.006


def test_draws_go_either_way_up_to_the_amount():
    """The middle of a ramp tells each image's shift: half the field is 1."""
    with seeded(0):
        found = geometry(translation=0.1)(ramps(29)[:1].expand(4000, -1, -1, -1))[:, 0, 14, 14]
    assert found.abs().max().item() == pytest.approx(0.2, rel=0.01)
    assert found.mean().abs().item() < 0.006
    assert found.std().item() == pytest.approx(0.4 / math.sqrt(12), rel=0.05)  # uniform


def test_crop_moves_by_whole_pixels_and_loses_nothing_that_stays_inside():
    image = torch.zeros(1, 1, 12, 16)
    image[..., 3:9, 3:13] = torch.rand(6, 10)
    moved = {tuple(image.roll((-y, -x), (2, 3)).flatten().tolist()) for y in range(-3, 4) for x in range(-3, 4)}
    with seeded(0):
        found = PadAndCrop(3)(image.repeat(1000, 1, 1, 1))
    assert {tuple(each) for each in found.flatten(1).tolist()} == moved


def test_crop_brings_ground_in_from_outside():
    with seeded(0):
        found = PadAndCrop(2)(torch.ones(200, 1, 8, 8))
    assert found.sum((1, 2, 3)).min() == 36
    assert set(found.unique().tolist()) == {0, 1}


def test_mirror_is_left_for_right_as_often_as_asked_for():
    batch = torch.rand(1, 1, 6, 8).repeat(2000, 1, 1, 1)
    with seeded(0):
        found = Mirror(0.3)(batch)
    mirrored = (found == batch.flip(-1)).all(-1).all(-1)
    assert (mirrored | (found == batch).all(-1).all(-1)).all()
    assert mirrored.float().mean().item() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("size", [(12, 12), (7, 16)])
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_strokes_thicken_to_scipys_dilation_and_thin_to_its_erosion(monkeypatch, size, strength):
    image = np.random.default_rng(0).random(size, np.float32)
    ways = torch.tensor([strength, -strength])
    monkeypatch.setattr(augmentation, "_either_way", lambda batch, most: ways)
    found = Stroke(strength)(torch.from_numpy(image).expand(2, 1, -1, -1))[:, 0].numpy()
    thick, thin = (each(image, size=(3, 3), mode="nearest") for each in (ndimage.grey_dilation, ndimage.grey_erosion))
    np.testing.assert_allclose(found[0], (1 - strength) * image + strength * thick, atol=1e-6)
    np.testing.assert_allclose(found[1], (1 - strength) * image + strength * thin, atol=1e-6)


def test_contrast_fades_each_image_as_a_whole():
    batch = torch.rand(500, 1, 8, 8) * 0.9 + 0.1
    with seeded(0):
        factors = (Ink(0, 0.4)(batch) / batch).flatten(1)
    assert (factors.amax(1) - factors.amin(1)).max() < 1e-5
    assert 0.6 <= factors.min() < 0.61
    assert 0.99 < factors.max() <= 1


def test_grain_breaks_ink_and_leaves_the_ground():
    batch = torch.zeros(500, 1, 8, 8)
    batch[..., 4:, :] = 0.5
    with seeded(0):
        found = Ink(0.8, 0)(batch)
    assert (found[..., :4, :] == 0).all()
    ink = found[..., 4:, :] / 0.5
    assert 0.2 <= ink.min() < 0.25
    assert ink.max() <= 1
    assert ink.flatten(1).std(1).max() > 0.1


def test_the_strongest_blur_is_scipys(full_draws):
    image = np.random.default_rng(0).random((20, 24), np.float32)
    found = Blur(1.5)(torch.from_numpy(image)[None, None])[0, 0].numpy()
    expected = ndimage.gaussian_filter(image.astype(np.float64), 1.5, mode="mirror", radius=3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blurs_lie_between_none_and_the_strongest():
    dot = torch.zeros(500, 1, 15, 15)
    dot[:, 0, 7, 7] = 1
    with seeded(0):
        found = Blur(1.0)(dot)
    peaks = found[:, 0, 7, 7]
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(500))
    assert peaks.max() > 0.98
    assert peaks.min().item() == pytest.approx(1 / sum(math.exp(-k * k / 2) for k in range(-2, 3)) ** 2, abs=0.01)


def test_a_shadow_lightens_the_ground_and_never_dims_ink():
    batch = torch.zeros(500, 1, 16, 16)
    batch[..., 8:, :] = 0.7
    batch[..., 12:, :] = 1
    with seeded(0):
        found = Shadow(0.2)(batch)
    assert (found >= batch).all()
    assert found.max() == 1
    ground = found[..., :8, :]
    assert 0.05 < ground.amax((1, 2, 3)).mean() < 0.4
    assert (ground.diff(dim=-1).abs() < 0.25).all()  # slow: no edges


def test_a_shadow_adds_what_the_ground_lacks_of_black(full_draws, monkeypatch):
    """A flat one of 0.2: black becomes 0.2, and 0.5 becomes 0.2 + 0.5 x 0.8."""
    monkeypatch.setattr(torch, "randn", lambda *shape, device: torch.ones(shape))
    found = Shadow(0.2)(torch.tensor([0.0, 0.5, 1.0]).expand(1, 1, 6, 3))
    torch.testing.assert_close(found, torch.tensor([0.2, 0.6, 1.0]).expand(1, 1, 6, 3))


def test_noise_has_the_deviation_asked_for_and_is_clipped():
    noise = build_augmentation(Augmentation(noise=0.1))
    with seeded(0):
        assert noise(torch.full((10, 1, 32, 32), 0.5)).std().item() == pytest.approx(0.1, rel=0.05)
        assert noise(torch.zeros(10, 1, 32, 32)).min() == 0


def test_erasing_makes_a_square_hole_of_4_to_10_pixels():
    with seeded(0):
        holes = Erase(1)(torch.ones(2000, 1, 28, 40))[:, 0] == 0
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), heights * widths)
    at_border = holes[:, [0, -1]].any(1).any(1) | holes[:, :, [0, -1]].any(1).any(1)
    whole = torch.stack([heights, widths])[:, ~at_border]
    assert set(whole.unique().tolist()) == set(range(4, 11))
    assert (whole[0] - whole[1]).abs().max() <= 1
    assert torch.maximum(heights, widths).max() <= 10


def test_erasing_happens_as_often_as_asked_for():
    with seeded(0):
        holes = Erase(0.25)(torch.ones(4000, 1, 28, 28)) == 0
    assert holes.any(-1).any(-1).float().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("name", EACH)
def test_the_largest_amounts_work_on_the_smallest_images(name):
    """Six pixels, fewer than the widest blur reaches over the border; and more columns than rows."""
    most = {"rotation": 180, "crop": 64, "blur": 16}.get(name, 1)
    for size in ((6, 6), (20, 33)):
        varied = build_augmentation(Augmentation(**{name: most}))(torch.rand(3, 1, *size))
        assert varied.shape == (3, 1, *size)
        assert varied.isfinite().all()

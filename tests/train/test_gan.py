import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from quillrt.runtime.errors import ConfigError, DataError, QuillError, SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.train.diversity import shortfall, spread
from quillrt.train.gan import train_gan
from quillrt.train.gan_config import GanConfig
from quillrt.train.gan_networks import NOISE, Discriminator, Generator
from quillrt.train.splitting import per_class

SHORT = GanConfig(steps=3, batch_size=8, device="cpu")


@pytest.fixture
def squares():
    """Eight images of 16 x 20 in two classes, `left` and `right` of the middle white."""
    pixels = np.zeros((8, 16, 20), np.uint8)
    pixels[::2, :, :10], pixels[1::2, :, 10:] = 255, 255
    return ImageSet(pixels, np.arange(8) % 2, ("left", "right"))


@pytest.mark.parametrize(("height", "width"), [(16, 64), (28, 28), (32, 20)])
def test_networks_take_images_of_many_sizes(height, width):
    noise, labels = torch.randn(5, NOISE), torch.tensor([0, 1, 2, 2, 0])
    images = Generator(3, height, width)(noise, labels)
    assert images.shape == (5, 1, height, width)
    assert images.abs().max() <= 1
    assert Discriminator(3, height, width)(images, labels).shape == (5,)


@pytest.mark.parametrize(("height", "width"), [(12, 28), (28, 30), (68, 28)])
def test_other_sizes_are_refused(squares, height, width):
    images = ImageSet(np.zeros((2, height, width), np.uint8), np.arange(2), ("a", "b"))
    with pytest.raises(SpecError, match=rf"multiples of 4 from 16 to 64, found {height} x {width}"):
        train_gan(images, SHORT)


def test_both_networks_look_at_the_class():
    torch.manual_seed(0)
    noise, images = torch.randn(1, NOISE).expand(2, -1), torch.randn(1, 1, 16, 16).expand(2, -1, -1, -1)
    drawn = Generator(2, 16, 16).eval()(noise, torch.tensor([0, 1]))
    assert not torch.allclose(drawn[0], drawn[1])
    verdicts = Discriminator(2, 16, 16)(images, torch.tensor([0, 1]))
    assert verdicts[0] != verdicts[1]


def test_drawn_images_are_balanced_and_in_the_order_of_classes(squares):
    drawn = train_gan(squares, SHORT).draw(3, seed=0)
    assert drawn.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert drawn.images.shape == (6, 16, 20)
    assert drawn.classes == squares.classes


def test_seeds_repeat_training_and_drawing(squares):
    torch.manual_seed(5)
    first = train_gan(squares, SHORT)
    after = torch.rand(3)
    again = train_gan(squares, SHORT)
    other = train_gan(squares, GanConfig(steps=3, batch_size=8, seed=1, device="cpu"))
    drawn = first.draw(4, seed=2).images
    np.testing.assert_array_equal(again.draw(4, seed=2).images, drawn)
    assert (first.draw(4, seed=3).images != drawn).any()
    assert (other.draw(4, seed=2).images != drawn).any()
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), after)  # the caller's numbers go on as if nothing had been drawn


def test_progress_counts_the_steps(squares):
    seen = []

    def track(items, label, total=None):
        for item in items:
            seen.append((label, total))
            yield item

    train_gan(squares, SHORT, track)
    assert seen == [("steps", 3)] * 3


def test_a_class_without_images(squares):
    with pytest.raises(DataError, match="none of right"):
        train_gan(squares.take(np.array([0, 2])), SHORT)


def test_divergence_is_one_line(squares):
    config = GanConfig(steps=60, batch_size=8, lr=1e30, device="cpu")
    with pytest.raises(QuillError, match=r"expected finite losses, .* \(--lr, now 1e\+30\)"):
        train_gan(squares, config)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch_size": 7}, "even and at least 2"),
        ({"lr": float("nan")}, "lr must be in 0"),
        ({"lr": 1e39}, "lr must be in 0"),
        ({"device": "tpu"}, "device one of auto, cpu, cuda"),
    ],
)
def test_settings_are_checked(wrong, says):
    with pytest.raises(ConfigError, match=says):
        GanConfig(**wrong)


def test_spread_by_hand():
    """Class 0: two images that differ in one of four pixels by all of -1..1; class 1: one image, so no pair."""
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    images[2, 0, 1, 1] = 255
    assert spread(images, torch.tensor([0, 1, 0]), 2).tolist() == [pytest.approx(2 / 4), 0]


def test_shortfall_by_hand():
    """Of two pairs one is alike and one differs by 0.5 in each pixel; a class without spread asks for nothing."""
    pairs = torch.zeros(4, 1, 2, 2)
    pairs[3] = 0.5
    labels = torch.tensor([0, 0, 1, 1])
    assert shortfall(pairs, labels, torch.tensor([1.0, 1.0])).item() == pytest.approx(1 - (0 + 0.5) / 2)
    assert shortfall(pairs, labels, torch.tensor([0.0, 1.0])).item() == pytest.approx(1 - (1 + 0.5) / 2)
    assert shortfall(pairs, labels, torch.tensor([1.0, 0.2])).item() == 0  # 0 + 2.5 is more than enough


def test_few_digits_teach_it_to_draw_digits(digits):
    """Neighbours among all real training digits know the drawn ones; guessing would be right for a tenth."""
    gan = train_gan(per_class(digits.train, 20, 0), GanConfig(steps=120, lr=1e-3, device="cpu"))
    drawn = gan.draw(20, seed=0)
    judge = KNeighborsClassifier(1).fit(digits.train.images.reshape(-1, 784), digits.train.labels)
    assert judge.score(drawn.images.reshape(-1, 784), drawn.labels) > 0.6
    pixels = torch.from_numpy(drawn.images)[:, None]
    real = spread(torch.from_numpy(digits.train.images)[:, None], torch.from_numpy(digits.train.labels), 10)
    assert (spread(pixels, torch.from_numpy(drawn.labels), 10) > real / 3).all()  # no class has one image only

import os
import subprocess
import sys

import numpy as np
import pytest

from quillrt.runtime.errors import ConfigError, DataError
from quillrt.runtime.preprocessing import Preprocessing, fit_images
from quillrt.runtime.spec import character_spec
from quillrt.train.datasets import load_dataset, load_dataset_for


def keys(part):
    return {image.tobytes() for image in part.images}


def test_digits_in_disjoint_stratified_parts(digits):
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part) for part in parts] == [1079, 359, 359]
    every = np.sum([np.bincount(part.labels) for part in parts], axis=0)
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(part.labels) - share * every).max() <= 1.5
    # Two writers may have drawn one 8 x 8 digit alike; these data hold no such pair, so keys tell images apart.
    assert not keys(digits.train) & keys(digits.validation)
    assert not keys(digits.train) & keys(digits.test)
    assert not keys(digits.validation) & keys(digits.test)


def test_preprocessing_is_measured_on_the_training_part(digits):
    pixels = digits.train.images / 255
    assert digits.preprocessing.mean == pytest.approx(pixels.mean(), abs=5e-5)
    assert digits.preprocessing.std == pytest.approx(pixels.std(), abs=5e-5)


@pytest.fixture
def small_mnist(tmp_path, write_raw):
    """200 training and 20 test images; each image's first pixels are its number."""
    images = np.zeros((220, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(220), 255
    labels = np.arange(220) % 10
    write_raw(tmp_path / "FashionMNIST" / "raw", "train", images[:200], labels[:200])
    write_raw(tmp_path / "FashionMNIST" / "raw", "t10k", images[200:], labels[200:])
    return tmp_path


def test_official_test_part_stays_and_validation_comes_from_training(small_mnist):
    splits = load_dataset("fashion-mnist", small_mnist)
    assert splits.test.images[:, 0, 0].tolist() == list(range(200, 220))
    assert np.bincount(splits.validation.labels).tolist() == [2] * 10
    numbers = np.concatenate([splits.train.images[:, 0, 0], splits.validation.images[:, 0, 0]])
    assert sorted(numbers) == list(range(200))
    assert splits.preprocessing.fit == "resize"
    assert splits.classes[0] == "T-shirt/top"


@pytest.mark.parametrize("name", ["fashion-mnist", "digits"])
@pytest.mark.parametrize("recipe", [Preprocessing(20, 14), Preprocessing(denoise=("gaussian",), mean=9.0)])
def test_a_recipe_gives_size_and_denoising_and_the_data_set_its_fit(small_mnist, name, recipe):
    plain, splits = load_dataset(name, small_mnist), load_dataset(name, small_mnist, recipe)
    made = splits.preprocessing
    assert (made.height, made.width, made.denoise) == (recipe.height, recipe.width, recipe.denoise)
    assert made.fit == plain.preprocessing.fit
    np.testing.assert_array_equal(splits.train.images, plain.train.images)  # as they came
    assert splits.train.fitted is None
    seen = fit_images(splits.train, made) / 255
    assert seen.shape[1:] == (recipe.height, recipe.width)
    assert (made.mean, made.std) == (pytest.approx(seen.mean(), abs=5e-5), pytest.approx(seen.std(), abs=5e-5))
    assert (made.mean, made.std) != (plain.preprocessing.mean, plain.preprocessing.std)


def test_environment_names_the_root(small_mnist, monkeypatch):
    monkeypatch.setenv("QUILLRT_DATA", str(small_mnist))
    assert len(load_dataset("fashion-mnist").test) == 20


def test_default_root_is_the_users_cache(small_mnist, monkeypatch):
    cache = small_mnist / "cache"
    cache.mkdir()
    (small_mnist / "FashionMNIST").rename(small_mnist / "moved")
    (cache / "quillrt").mkdir()
    (small_mnist / "moved").rename(cache / "quillrt" / "FashionMNIST")
    monkeypatch.delenv("QUILLRT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert len(load_dataset("fashion-mnist").test) == 20


def test_empty_test_part(tmp_path, write_raw):
    raw = tmp_path / "MNIST" / "raw"
    write_raw(raw, "train", np.ones((20, 28, 28)), np.arange(20) % 10)
    write_raw(raw, "t10k", np.zeros((0, 28, 28)), np.zeros(0))
    with pytest.raises(DataError, match="expected images"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("name", ["nope", "", "MNIST", "folder"])
def test_unknown_name_lists_the_known(name):
    with pytest.raises(DataError, match=r"digits, mnist, emnist-letters, .* folder:PATH"):
        load_dataset(name)


def test_only_some_classes_in_the_order_asked_for(digits):
    few = digits.only(["7", "0"])
    assert few.classes == few.test.classes == ("7", "0")
    for label, name in enumerate(few.classes):
        original = digits.test.images[digits.test.labels == int(name)]
        np.testing.assert_array_equal(few.test.images[few.test.labels == label], original)
    assert few.preprocessing == digits.preprocessing


@pytest.mark.parametrize("classes", [["1", "x"], ["1", "1"], ["1"], []])
def test_only_refuses(digits, classes):
    with pytest.raises(ConfigError, match="two or more different classes"):
        digits.only(classes)


def test_part_by_name(digits):
    assert digits.part("validation") is digits.validation
    with pytest.raises(ConfigError, match="train, validation, test"):
        digits.part("exam")


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, quillrt.train.datasets, quillrt.train.config, quillrt.train.evaluation, quillrt.train.plots;"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'matplotlib', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.data
def test_real_mnist_parts_and_the_constants_everybody_quotes():
    if not os.environ.get("QUILLRT_DATA"):
        pytest.skip("QUILLRT_DATA is not set")
    splits = load_dataset("mnist")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55_000, 5_000, 10_000)
    assert (splits.preprocessing.mean, splits.preprocessing.std) == (0.1307, 0.3081)
    assert not keys(splits.train) & keys(splits.validation)


def test_a_data_set_without_the_models_labels_is_refused_by_name():
    spec = character_spec(("1", "A", "B"), Preprocessing())
    with pytest.raises(ConfigError, match="found digits without A B; give --dataset as the model was trained on"):
        load_dataset_for(spec, {}, "digits")
    _, splits = load_dataset_for(character_spec(("7", "1"), Preprocessing()), {}, "digits")
    assert splits.classes == ("7", "1")

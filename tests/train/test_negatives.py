from importlib.machinery import PathFinder

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.images import grey
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.train import negatives as module
from quillrt.train.negatives import negatives

pytest.importorskip("sklearn")


def test_the_same_images_every_time_fitted_and_not_all_alike():
    recipe = Preprocessing(28, 28, denoise=("levels",))
    found, again = negatives(recipe, 20), negatives(recipe, 20)
    assert [(name, images.shape) for name, images in found.items()] == [
        ("buildings", (20, 28, 28)),
        ("flowers", (20, 28, 28)),
        ("noise", (5, 28, 28)),
        ("blank", (64, 28, 28)),
    ]
    for name, images in found.items():
        np.testing.assert_array_equal(images, again[name])
    assert len({image.tobytes() for image in found["buildings"]}) > 10  # some are nothing but sky
    assert not found["blank"].any()


def test_the_photographs_are_scikit_learns():
    from sklearn.datasets import load_sample_image

    seen = []

    def watch(photograph, random):
        seen.append(photograph)
        return photograph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_crop", watch)
        negatives(Preprocessing(), 4)
    for photograph, name in zip(seen[::4], ("china.jpg", "flower.jpg"), strict=True):
        np.testing.assert_array_equal(photograph, grey(Image.fromarray(load_sample_image(name))))


def test_without_scikit_learn_there_are_none(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert negatives(Preprocessing()) == {}


def test_without_its_photographs_there_are_none(monkeypatch, tmp_path):
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").touch()
    monkeypatch.setattr(module, "find_spec", lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    assert negatives(Preprocessing()) == {}

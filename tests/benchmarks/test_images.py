import sys

import numpy as np
import pytest

from quillrt.benchmarks.gpu_steps import Steps
from quillrt.benchmarks.images import SYNTHETIC, choose_images
from quillrt.runtime.errors import ConfigError, DataError


@pytest.fixture
def no_sklearn(monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):  # the second, too, for another test may have imported it
        monkeypatch.setitem(sys.modules, module, None)


def test_the_models_own_data_set_comes_first_then_the_digits():
    name, images = choose_images({}, part="validation")
    assert (name, images.images.shape[1:]) == ("digits validation", (28, 28))
    with pytest.raises(DataError, match="runes"):
        choose_images({"dataset": "runes"})
    assert choose_images({"dataset": "runes"}, dataset="digits")[0] == "digits test"


@pytest.mark.usefixtures("no_sklearn")
def test_without_scikit_learn_noise_takes_the_place_of_images_nobody_named():
    name, images = choose_images({})
    assert name == SYNTHETIC
    assert "synthetic" in name
    assert images.images.shape == (256, 28, 28)
    np.testing.assert_array_equal(images.images, choose_images({"dataset": "digits"})[1].images)
    with pytest.raises(ModuleNotFoundError, match="sklearn"):
        choose_images({}, dataset="digits")


@pytest.mark.usefixtures("no_sklearn")
def test_the_gpu_check_needs_no_scikit_learn():
    (name, images, _), facts = Steps().images(None)
    assert facts == {"source": SYNTHETIC, "images": len(images)}
    assert name == SYNTHETIC


def test_a_folder_on_the_trainers_machine_has_to_be_given():
    with pytest.raises(ConfigError, match=r"--dataset folder:PATH.*'letters'"):
        choose_images({"dataset": "folder:letters"})

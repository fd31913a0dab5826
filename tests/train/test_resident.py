import numpy as np
import pytest
import torch

from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, fit_images, normalize
from quillrt.train.resident import ResidentImages


@pytest.fixture(params=[False, True], ids=["as they came", "fitted"])
def images(request):
    """Six images 4 x 6 with every grey level apart; the recipe wants 4 x 6 too, and the ink where it is."""
    recipe = Preprocessing(height=4, width=6, mean=0.3, std=0.4, fit="resize")
    values = np.random.default_rng(1).integers(0, 256, (6, 4, 6), dtype=np.uint8)
    fitted = recipe if request.param else None
    return ImageSet(values, np.array([2, 0, 1, 1, 0, 2]), ("a", "b", "c"), fitted=fitted), recipe


def test_batches_are_what_the_runtime_makes(images):
    part, recipe = images
    resident = ResidentImages(part, recipe, torch.device("cpu"))
    chosen = torch.tensor([4, 0, 4])
    grey = resident.grey(chosen)
    assert (grey.dtype, grey.shape) == (torch.float32, (3, 1, 4, 6))
    fitted = fit_images(part, recipe)
    np.testing.assert_allclose(grey[:, 0], fitted[[4, 0, 4]] / 255, rtol=1e-6)
    np.testing.assert_allclose(resident.normalized(grey), normalize(fitted[[4, 0, 4]], recipe), rtol=1e-4, atol=1e-6)
    assert resident.labels[chosen].tolist() == [0, 2, 0]


def test_batches_are_copies(images):
    part, recipe = images
    resident = ResidentImages(part, recipe, torch.device("cpu"))
    before = resident.grey(torch.arange(6))
    resident.grey(torch.arange(6)).zero_()
    assert torch.equal(resident.grey(torch.arange(6)), before)


def test_no_images_chosen(images):
    part, recipe = images
    resident = ResidentImages(part, recipe, torch.device("cpu"))
    assert resident.normalized(resident.grey(torch.arange(0))).shape == (0, 1, 4, 6)

import numpy as np
from scipy.ndimage import center_of_mass, find_objects
from sklearn.datasets import load_digits

from quillrt.train.digits import read_digits


def test_every_digit_of_scikit_learn_in_its_order():
    images = read_digits()
    assert images.images.shape == (1797, 28, 28)
    assert images.labels.tolist() == load_digits().target.tolist()
    assert images.classes == tuple("0123456789")


def test_made_as_mnist_was():
    """Ink in a box of 20 x 20 that touches it, centre of mass in the middle to half a pixel."""
    images = read_digits().images
    for image in images:
        rows, columns = find_objects((image > 0).astype(int))[0]
        assert max(rows.stop - rows.start, columns.stop - columns.start) == 20
    centres = np.array([center_of_mass(image.astype(float)) for image in images])
    assert np.abs(centres - 14).max() <= 0.5

"""Trainings on next to nothing: few classes, one image, a last batch of one."""

import math
from dataclasses import replace

import numpy as np
from torch import nn

from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits
from quillrt.train.models import build_model
from quillrt.train.training import train


def test_few_images_of_one_class_and_balanced_weights(few_digits):
    """A batch may lack classes; a class may lack images altogether."""
    keep = np.flatnonzero(few_digits.train.labels < 3)
    splits = Splits(few_digits.train.take(keep), few_digits.validation, few_digits.test, few_digits.preprocessing)
    module = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    (epoch,) = train(module, splits, TrainConfig(epochs=1, batch_size=2, class_weights="balanced", device="cpu"))
    assert math.isfinite(epoch.loss)


def test_a_single_image_of_each_part():
    recipe = Preprocessing(height=8, width=8, mean=0.5, std=0.5)
    part = ImageSet(np.zeros((1, 8, 8), np.uint8), np.array([0]), ("a", "b"), fitted=recipe)
    module = build_model("cnn", 2, 8, 8)
    (epoch,) = train(module, Splits(part, part, part, recipe), TrainConfig(epochs=1, device="cpu"))
    assert math.isfinite(epoch.validation_loss)


def test_a_last_image_that_would_be_alone_waits(few_digits):
    """A batch norm has nothing to compare a single value with: on images of 6 x 6, quillnet's last field is 1 x 1."""
    recipe = replace(few_digits.preprocessing, height=6, width=6)
    splits = replace(few_digits, preprocessing=recipe, train=few_digits.train.take(np.arange(9)))
    module = build_model("quillnet", 10, 6, 6)
    (epoch,) = train(module, splits, TrainConfig(epochs=1, batch_size=4, device="cpu"))
    assert math.isfinite(epoch.loss)
    assert module.block1.norm.num_batches_tracked == 2

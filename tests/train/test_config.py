import math

import pytest

from quillrt.runtime.errors import ConfigError
from quillrt.train.config import SCHEDULES, TrainConfig


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"optimizer": "adam"}, "optimizer one of adamw, sgd"),
        ({"schedule": "step"}, "schedule one of constant, linear, exponential, cosine, one-cycle, plateau"),
        ({"class_weights": "some"}, "class weights one of none, balanced"),
        ({"device": "tpu"}, "device one of auto, cpu, cuda"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"lr": 0.0}, "lr must be in 0"),
        ({"lr": math.nan}, "lr must be in 0"),
        ({"lr": math.inf}, "lr must be in 0"),
        ({"momentum": 1.0}, "momentum must be in 0..1"),
        ({"weight_decay": -1e-4}, "weight decay must be finite and not negative"),
        ({"epochs": 3, "warmup": 3.0}, "warm-up must be at least 0 and below 3, the epochs"),
        ({"layer_decay": 0.0}, "layer decay must be in 0..1"),
        ({"label_smoothing": 1.0}, "label smoothing must be in 0..1"),
        ({"mse_share": 1.5}, "squared error must be in 0..1"),
        ({"clip_norm": -1.0}, "gradient norm must be finite and not negative"),
        ({"ema": 1.0}, "decay of the average must be in 0..1"),
        ({"patience": -1}, "patience must be not negative"),
        ({"nesterov": True}, "nesterov needs the optimizer sgd"),
    ],
)
def test_bad_settings(setting, says):
    with pytest.raises(ConfigError, match=says):
        TrainConfig(**setting)


def test_schedules_at_known_points():
    assert [SCHEDULES["constant"](done) for done in (0, 0.5, 1)] == [1, 1, 1]
    assert [SCHEDULES["cosine"](done) for done in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])

import math

import pytest

from quillrt.runtime.errors import ConfigError
from quillrt.train.config import SCHEDULES, TrainConfig


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"optimizer": "adam"}, "optimizer one of adamw, sgd"),
        ({"schedule": "step"}, "schedule one of constant, cosine"),
        ({"device": "tpu"}, "device one of auto, cpu, cuda"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"lr": math.inf}, "lr must be positive"),
        ({"momentum": 1.0}, "momentum in 0..1"),
        ({"weight_decay": -1e-4}, "weight decay not negative"),
    ],
)
def test_bad_settings(setting, says):
    with pytest.raises(ConfigError, match=says):
        TrainConfig(**setting)


def test_schedules_at_known_points():
    assert [SCHEDULES["constant"](done) for done in (0, 0.5, 1)] == [1, 1, 1]
    assert [SCHEDULES["cosine"](done) for done in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])

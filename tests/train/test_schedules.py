import math

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from quillrt.train.schedules import SCHEDULES, Schedule

STEPS = 40


def torchs(build, count=STEPS + 1):
    """Learning rates of one of torch's schedulers, which starts from 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = build(optimizer)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def factors(schedule, count):
    return [schedule.factor(step) for step in range(count)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", (1, 1, 1, 1)),
        ("linear", (1, 0.75, 0.5, 0)),
        ("exponential", (1, 0.1778279, 0.0316228, 0.001)),  # 10 ** (-3 / 4), 10 ** (-3 / 2)
        ("cosine", (1, 0.8535534, 0.5, 0)),  # (1 + sqrt(1 / 2)) / 2
        ("one-cycle", (0.001, 1, 0.75025, 0.001)),  # a third of the way down: 0.001 + 0.999 x (1 + cos 60°) / 2
        ("plateau", (1, 1, 1, 1)),
    ],
)
def test_values_at_the_start_after_a_quarter_after_half_and_at_the_end(name, values):
    schedule = Schedule(name, STEPS)
    assert [schedule.factor(step) for step in (0, 10, 20, 40)] == pytest.approx(values, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, STEPS)),
        ("exponential", lambda o: lr_scheduler.ExponentialLR(o, 1e-3 ** (1 / STEPS))),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    ],
)
def test_as_torchs(name, build):
    assert factors(Schedule(name, STEPS), STEPS + 1) == pytest.approx(torchs(build), abs=1e-9)


def test_one_cycle_is_torchs_with_both_turns_a_step_later():
    """torch has its highest rate at step ``pct_start x total - 1`` and its lowest at ``total - 1``."""

    def build(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer, 1.0, STEPS + 1, pct_start=11 / 41, div_factor=1e3, final_div_factor=1, cycle_momentum=False
        )

    rates = torchs(build, STEPS)
    assert factors(Schedule("one-cycle", STEPS), STEPS) == pytest.approx(rates, abs=1e-9)


def test_warmup_is_torchs_line_and_ends_at_the_highest_rate():
    rising = torchs(lambda o: lr_scheduler.LinearLR(o, 1 / 8, 1.0, 7), 12)
    assert factors(Schedule("constant", STEPS, 8), 12) == pytest.approx(rising)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"one-cycle"}))
def test_after_warmup_the_rest_is_a_whole_schedule(name):
    warmed, plain = Schedule(name, 50, 10), Schedule(name, 40)
    assert factors(warmed, 10) == pytest.approx(np.arange(1, 11) / 10)
    assert [warmed.factor(step) for step in range(10, 51)] == pytest.approx(factors(plain, 41))


def test_one_cycle_takes_the_warmup_for_its_rise():
    schedule = Schedule("one-cycle", 50, 10)
    assert factors(schedule, 10) == pytest.approx(np.arange(1, 11) / 10)
    fall = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, 40, eta_min=1e-3))
    assert [schedule.factor(step) for step in range(10, 51)] == pytest.approx(fall, abs=1e-9)


def test_plateau_halves_after_two_epochs_without_a_lower_loss():
    schedule = Schedule("plateau", 100)
    seen = []
    #            best       best          wait 2  wait 1, best         wait 2  wait 2
    for loss in (3.0, 2.0, 2.0, 2.5, 2.1, 1.0, 1.0, 1.0, 1.0, 1.0):
        schedule.after_epoch(loss)
        seen.append(schedule.factor(50))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_plateau_is_torchs():
    losses = np.random.default_rng(0).normal(size=60) - np.linspace(0, 2, 60)
    schedule = Schedule("plateau", 100)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    # torch's patience is the number of epochs it forgives, ours the number after which it acts.
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0)
    ours, theirs = [], []
    for loss in losses:
        schedule.after_epoch(loss)
        scheduler.step(loss)
        ours.append(schedule.factor(50))
        theirs.append(optimizer.param_groups[0]["lr"])
    assert ours == pytest.approx(theirs, abs=0)
    assert theirs[-1] < 0.01


def test_plateau_lowers_the_warmup_too():
    schedule = Schedule("plateau", 100, 10)
    for _ in range(3):
        schedule.after_epoch(1.0)
    assert [schedule.factor(step) for step in (4, 10)] == [0.25, 0.5]


def test_other_schedules_take_no_notice_of_the_loss():
    for name in set(SCHEDULES) - {"plateau"}:
        schedule = Schedule(name, 10)
        for _ in range(9):
            schedule.after_epoch(1.0)
        assert factors(schedule, 11) == factors(Schedule(name, 10), 11)


@pytest.mark.parametrize("epochs", range(7))
def test_a_restored_schedule_goes_on_as_if_never_stopped(epochs):
    losses = (3.0, 4.0, 4.0, 4.0, 2.0, 2.0, 2.0, 2.0, 2.0)
    whole, first = Schedule("plateau", 100), Schedule("plateau", 100)
    for loss in losses[:epochs]:
        first.after_epoch(loss)
    second = Schedule("plateau", 100)
    second.restore(first.state())
    for loss in losses:
        whole.after_epoch(loss)
    for loss in losses[epochs:]:
        second.after_epoch(loss)
    assert second.state() == whole.state() == {"lowered": 0.125, "best": 2.0, "waited": 0}


def test_a_training_of_nothing_but_warmup_divides_by_nothing():
    assert math.isfinite(Schedule("cosine", 10, 10).factor(10))

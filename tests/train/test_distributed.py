"""Two processes on one CPU train as one: the same figures, nearly the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.train.distributed import World, joined

WORKER = Path(__file__).with_name("two_processes.py")
TRAININGS = ("plain", "weighted", "unfreezing")
NORMS = ("2d", "1d", "plain", "mean of all", "no statistics")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes found, by rank."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", WORKER, folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(folder.rglob("*.state"))
    assert not (folder / "disk1").exists()  # the second process writes nothing
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_both_were_there(found):
    assert [each["world"] for each in found] == [[0, 2], [1, 2]]


@pytest.mark.parametrize("name", TRAININGS)
def test_figures_and_weights_are_those_of_one_process(found, name):
    for each in found:
        run = each["trainings"][name]
        for alone, together in zip(run["expected"], run["found"], strict=True):
            assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
            assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-3)
            assert together["accuracy"] == pytest.approx(alone["accuracy"], abs=2.5 / 128)  # an image or two on edge
            assert (together["number"], together["lr"]) == (alone["number"], alone["lr"])
        assert run["difference"] < 0.01 * run["moved"]


@pytest.mark.parametrize("name", TRAININGS)
def test_shared_validation_is_exact(found, name):
    """31 images over two processes: the figures are those of one pass over all of them, of the weights kept."""
    for each in found:
        run = each["trainings"][name]
        best = max(run["found"], key=lambda epoch: epoch["validation_accuracy"])
        last = best if name == "weighted" else run["found"][-1]  # which has patience
        assert [last["validation_loss"], last["validation_accuracy"]] == pytest.approx(run["judged"], rel=1e-5)


def test_both_come_to_the_same_figures_and_only_the_first_tells(found):
    first, second = ([epoch | {"seconds": 0} for epoch in each["trainings"]["plain"]["found"]] for each in found)
    assert first == second
    assert [each["trainings"]["plain"]["told"] for each in found] == [[1, 2], []]


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_sees_the_whole_batch(found, name):
    """Answers are of size 1; float32 at 1000 has steps of 6e-5, a six-hundredth of the deviation."""
    for each in found:
        norm = each["norms"][name]
        assert norm["answer"] < 5e-3
        assert norm["input gradient"] < 5e-3 * norm["input gradient size"]
        assert norm["gradients"] < 1e-2
        assert norm["statistics"] < 1e-3
        assert norm["eval"] < 5e-3


def test_resuming_needs_the_state_on_the_first_machine_only(found):
    assert [each["resumed"] for each in found] == [0, 0]


def test_each_process_draws_its_own_numbers(found):
    for each in found:
        first, second = each["draws"]
        assert first != second


def test_batches_smaller_than_the_world_are_refused(found):
    for each in found:
        assert each["refusal"].startswith("expected batches of 2 images at least, one for each process")
        assert "--batch-size 1" in each["refusal"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_disjoint_and_even(size):
    items = torch.arange(20)
    shares = [World(rank, size).share(items) for rank in range(size)]
    assert sorted(torch.cat(shares).tolist()) == list(range(20))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_alone_there_is_nobody_to_ask(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as world:
        assert (world.rank, world.size, world.writes) == (0, 1, True)
        assert world.gather("x") == ["x"]
        assert world.total(torch.tensor(3)) == 3
    assert not torch.distributed.is_initialized()


def test_a_world_of_two_without_an_address(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"expected 2 processes to meet .* start them with torchrun"), joined("cpu"):
        pass


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    for name, value in (("is_available", True), ("current_device", 0), ("device_count", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    with pytest.raises(ConfigError, match="a GPU for each process of this machine, found 1"), joined("auto"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_gpu_for_several_processes(monkeypatch):
    """Told as for one process, not as a failure to meet."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BackendUnavailable, match="CUDA"), joined("cuda"):
        pass

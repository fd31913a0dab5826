"""Every pretrained model that is installed: its files agree, are small, and its card tells what they do."""

import hashlib
import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from quillrt.compile.verify import verify
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.images import grey
from quillrt.runtime.precision import Precision
from quillrt.runtime.predict import run_images
from quillrt.runtime.preprocessing import fit_image
from quillrt.runtime.pretrained import FOLDER, find, names
from quillrt.runtime.pretrained_facts import facts
from quillrt.runtime.select import open_fitting
from quillrt.train.checkpoint import load_checkpoint
from quillrt.train.datasets import load_dataset_for
from quillrt.train.negatives import negatives

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NONE = pytest.param("", marks=pytest.mark.skip(reason="this install has no pretrained models"))
every_model = pytest.mark.parametrize("name", names() or [NONE])

SUFFIXES = (".md", ".quill", ".safetensors", ".toml")
A_PATH = re.compile(rb"/(?:home|root|tmp|work|usr|opt|mnt|Users)/\w|\bC:\\Users\\")
FILE = re.compile(r"[\w-]+\.(?:quill|safetensors|toml)\b")
FIGURE = re.compile(r"^\| `(\S+)` \| (\d+\.\d\d) % \| ([\d,]+) \|", re.MULTILINE)
BETWEEN_CPUS = 0.05  # points: processors sum in other orders, which tips a few images in ten thousand


def test_every_file_belongs_to_a_model():
    files = {path.name for path in FOLDER.iterdir() if path.is_file()} - {"__init__.py", "py.typed"}

    assert files == {name + suffix for name in names() for suffix in SUFFIXES}


@every_model
def test_it_is_small_enough_for_a_package(name):
    assert find(name, ".safetensors").stat().st_size < 2_000_000
    assert find(name, ".quill").stat().st_size < 5_000_000


@every_model
def test_checkpoint_and_bundle_are_the_same_network(name):
    path = find(name, ".safetensors")
    checkpoint, bundle = load_checkpoint(path), Bundle.open(find(name, ".quill"))
    spec, source = bundle.manifest.model, bundle.manifest.source

    assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (source["model"], source["training"], spec) == (checkpoint.model, checkpoint.training, checkpoint.spec)
    assert facts(name).parameters == sum(p.numel() for p in checkpoint.module().parameters())
    batch = np.random.default_rng(0).normal(size=(4, *spec.input.shape[1:])).astype(np.float32)
    with torch.inference_mode():
        expected = checkpoint.module()(torch.from_numpy(batch)).numpy()
    with open_fitting(bundle, "onnxruntime-cpu", Precision.FP32)[0] as session:
        np.testing.assert_allclose(session.run(batch), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@every_model
def test_the_recipe_is_what_made_it(name):
    recipe = tomllib.loads(find(name, ".toml").read_text(encoding="utf-8"))
    checkpoint = load_checkpoint(find(name, ".safetensors"))
    made = {"model": checkpoint.model, "dataset": checkpoint.training["dataset"], **checkpoint.training["config"]}

    assert recipe.keys() >= {"train", "compile"}
    for option, value in recipe["train"].items():
        if option.replace("-", "_") in made:
            assert made[option.replace("-", "_")] == value, option


@every_model
def test_it_names_no_place_of_the_machine_that_made_it(name):
    for suffix in SUFFIXES:
        assert A_PATH.search(find(name, suffix).read_bytes()) is None, suffix


@every_model
def test_the_card_names_files_that_are_there_and_the_seed(name):
    card = find(name, ".md").read_text(encoding="utf-8")
    seed = load_checkpoint(find(name, ".safetensors")).training["config"]["seed"]

    assert set(FILE.findall(card)) >= {f"{name}.safetensors", f"{name}.quill", f"{name}.toml"}
    assert [file for file in FILE.findall(card) if not (FOLDER / file).is_file()] == []
    assert re.search(rf"\bseed {seed}\b", card)


@every_model
def test_it_turns_away_what_is_no_character_as_its_bundle_says(name):
    """And nearly all crops of a photograph that nothing was found on."""
    pytest.importorskip("sklearn")
    bundle = Bundle.open(find(name, ".quill"))
    confidence, recipe = bundle.manifest.confidence, bundle.manifest.model.preprocessing
    with open_fitting(bundle, "onnxruntime-cpu", Precision.FP32)[0] as session:

        def taken(images):
            return confidence.are_characters(run_images(session, images), images).mean()

        claimed = {kind: each["share"] for kind, each in confidence.measured["taken_for_characters"].items()}
        assert {kind: taken(images) for kind, images in negatives(recipe).items()} == pytest.approx(claimed, abs=0.003)
        assert max(claimed.values()) < 0.1
        assert taken(crops_of_a_portrait(recipe)) < 0.15


def crops_of_a_portrait(recipe):
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = grey(Image.open(file))
    random = np.random.default_rng(5)
    found = []
    for side in np.exp(random.uniform(np.log(24), np.log(300), 300)).astype(int):
        top, left = (int(random.integers(0, size - side)) for size in portrait.shape)
        found.append(fit_image(portrait[top : top + side, left : left + side], recipe))
    return np.stack(found)


@every_model
@pytest.mark.data
@pytest.mark.slow
def test_the_card_has_the_accuracy_of_every_file_on_the_test_part(name):
    """A row is `FILE`, accuracy, n; that of `make models` on one processor is that of another but for a few images."""
    if not os.environ.get("QUILLRT_DATA"):
        pytest.skip("QUILLRT_DATA is not set")
    bundle = Bundle.open(find(name, ".quill"))
    _, splits = load_dataset_for(bundle.manifest.model, bundle.manifest.training, None)
    rows = FIGURE.findall(find(name, ".md").read_text(encoding="utf-8"))
    claimed = {path: (float(accuracy), int(n.replace(",", ""))) for path, accuracy, n in rows}

    ran = [v for v in verify(bundle, splits.test) if v.n]

    assert ran
    assert {v.path for v in ran} <= set(claimed) <= {entry.path for entry in bundle.entries}
    for v in ran:
        accuracy, n = claimed[v.path]
        assert n == v.n
        assert accuracy == pytest.approx(100 * v.accuracy, abs=BETWEEN_CPUS + 0.005)

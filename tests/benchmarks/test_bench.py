import hashlib
from dataclasses import replace

import pytest
import torch

from quillrt.benchmarks.bench import check_checkpoint
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import CheckpointError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint, save_checkpoint
from quillrt.train.models import build_model

SPEC = character_spec(tuple("abc"), Preprocessing(height=8, width=8))


@pytest.fixture
def save(tmp_path):
    """Write a checkpoint with weights by ``seed`` for ``spec``."""

    def save(name, seed=0, spec=SPEC):
        torch.manual_seed(seed)
        shape = (spec.preprocessing.height, spec.preprocessing.width)
        module = build_model("cnn", len(spec.labels), *shape)
        save_checkpoint(tmp_path / name, Checkpoint.of("cnn", spec, module.state_dict(), {}))
        return tmp_path / name

    return save


@pytest.fixture
def bundle(tmp_path):
    def bundle(**source):
        return Bundle(tmp_path / "model.quill", Manifest(SPEC, source, ()), {}, "")

    return bundle


def test_a_bundle_from_a_checkpoint_wants_that_very_file(bundle, save):
    own, other = save("own.safetensors"), save("other.safetensors", seed=1)
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    compiled = bundle(kind="checkpoint", sha256=digest)
    check_checkpoint(compiled, own)
    with pytest.raises(CheckpointError, match=rf"model\.quill.*{digest[:12]}.*other\.safetensors.*compile again"):
        check_checkpoint(compiled, other)


def test_a_bundle_from_onnx_wants_its_labels_and_its_input(bundle, save):
    compiled = bundle(kind="onnx", sha256="0" * 64)
    check_checkpoint(compiled, save("own.safetensors"))
    letters = replace(SPEC, labels=tuple("xyz"))
    larger = character_spec(SPEC.labels, Preprocessing(height=12, width=12))
    for spec, what in ((letters, "x y z"), (larger, "12")):
        with pytest.raises(CheckpointError, match=what):
            check_checkpoint(compiled, save("other.safetensors", spec=spec))

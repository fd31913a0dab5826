import os
from pathlib import Path

import pytest

from quillrt.runtime.build_options import Profile
from quillrt.runtime.ort_engines import EngineFolder, load_tensorrt, profile_shapes
from quillrt.runtime.ort_options import Tuning
from quillrt.runtime.spec import TensorSpec

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path):
    """Where the engine of a model lies."""

    def folder(model=b"weights", device=0, **facts):
        return EngineFolder(tmp_path, model, Tuning(**facts), device).provider_options()["trt_engine_cache_path"]

    return folder


def test_shapes_of_a_profile_are_written_as_the_provider_reads_them():
    images = TensorSpec("image", "float32", (None, 1, 28, 32))

    assert profile_shapes(images, Profile((2,), (4,), (6,))) == {
        "trt_profile_min_shapes": "image:2x1x28x32",
        "trt_profile_opt_shapes": "image:4x1x28x32",
        "trt_profile_max_shapes": "image:6x1x28x32",
    }
    assert profile_shapes(TensorSpec("image", "float32", (8, 1, 28, 32)), Profile()) == {}


def test_engines_lie_in_the_cache_and_timings_are_shared(tmp_path):
    one, other = (EngineFolder(tmp_path, model, Tuning(), 0).provider_options() for model in (b"one", b"other"))

    assert one["trt_timing_cache_path"] == other["trt_timing_cache_path"] == str(tmp_path / "onnxruntime-tensorrt")
    for options in (one, other):
        assert Path(options["trt_engine_cache_path"]).parent == tmp_path / "onnxruntime-tensorrt"
        assert (options["trt_engine_cache_enable"], options["trt_timing_cache_enable"]) == ("True", "True")


def test_another_model_or_option_or_version_has_another_folder(monkeypatch, folder):
    found = [
        folder(),
        folder(b"weights trained on"),
        folder(device=1),
        folder(provider={"trt_builder_optimization_level": "5"}),
        folder(batches=Profile((1,), (2,), (4,))),
    ]
    assert folder() == found[0]
    assert folder(cpu_nodes=("Shape",), io_binding=False) == found[0]
    monkeypatch.setattr(onnxruntime, "__version__", "1.99")
    found.append(folder())

    assert len(set(found)) == len(found)


@pytest.mark.parametrize("kept", [True, False], ids=["no folder", "no cache"])
def test_where_nothing_can_be_kept_nothing_is(tmp_path, kept):
    (tmp_path / "file").write_text("no folder")
    engines = EngineFolder(tmp_path / "file" if kept else None, b"weights", Tuning(), 0)

    assert engines.provider_options() == {}
    assert engines.files() == []


def test_tf32_is_forbidden_unless_the_user_said_otherwise(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    load_tensorrt()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    load_tensorrt()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")  # set by the code under test: monkeypatch restores what was before

"""onnxruntime's GPU sessions: on a GPU where there is one, else over its Azure provider, which takes no node.

That provider is part of the ordinary package on Linux; to it all nodes fall to the CPU, as any may from a GPU. With
``cpu_nodes`` they may, so that binding and cutting of batches run for real, in memory of the CPU.
"""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from quillrt.runtime import device as device_module
from quillrt.runtime.backends import open_session, why_unavailable
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.errors import BackendUnavailable, BundleError, ConfigError
from quillrt.runtime.ort_binding import Bindings
from quillrt.runtime.ort_gpu import CudaSession, OrtTensorRTSession
from quillrt.runtime.ort_options import for_batch
from quillrt.runtime.session import SessionOptions

onnxruntime = pytest.importorskip("onnxruntime")
REASONS = {name: why_unavailable(name) for name in ("onnxruntime-cuda", "onnxruntime-tensorrt")}
on_azure = pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this onnxruntime has no Azure provider to stand in for a GPU's",
)
ALL = "Flatten,MatMul"  # the nodes of the classifier in tests/conftest.py


class Azure:
    """Lets onnxruntime's Azure provider, which takes no options and no nodes, stand in for a GPU's."""

    provider = "AzureExecutionProvider"
    memory = "cpu"

    @classmethod
    def unavailable(cls, device=0):
        return None

    def provider_options(self, model, options):
        super().provider_options(model, options)  # for the folder of TensorRT's
        return {}


class OnAzure(Azure, CudaSession):
    pass


class TensorRTOnAzure(Azure, OrtTensorRTSession):
    pass


@pytest.fixture(autouse=True)
def tf32(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


def options(device=0, cache=NO_CACHE, **provider_options):
    return SessionOptions(threads=1, device=device, cache=cache, provider_options=provider_options)


def batch_of(n):
    return np.random.default_rng(n).choice(np.array([-1, 1], np.float32), (n, 1, 8, 8))


@pytest.fixture
def started(monkeypatch):
    """What ``InferenceSession`` was called with: a stand-in that starts whatever provider it is asked for."""
    calls = []

    def start(model, settings, providers, **_):
        calls.append(SimpleNamespace(model=model, settings=settings, providers=providers))
        return SimpleNamespace(get_providers=lambda: [providers[0][0], "CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    for cls in (CudaSession, OrtTensorRTSession):
        monkeypatch.setattr(cls, "unavailable", classmethod(lambda cls, device: None))
    return calls


@pytest.mark.parametrize("cls", [CudaSession, OrtTensorRTSession])
def test_the_gpu_that_is_asked_for_has_to_be_there(monkeypatch, quadrants, cls):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cls.provider])
    monkeypatch.setattr(device_module, "find_gpus", lambda: ("the only one",))

    assert cls.unavailable() is None
    told = f"backend {cls.name} needs an NVIDIA GPU: expected an index of 0 to 0, found 1; give another --device"
    assert cls.unavailable(1) == told
    with pytest.raises(BackendUnavailable, match=r"found 1; give another --device$"):
        cls(quadrants.onnx, quadrants.spec, options(device=1))


@on_azure
def test_nodes_on_the_cpu_are_named_and_refused(quadrants):
    with pytest.raises(BackendUnavailable) as error:
        OnAzure(quadrants.onnx, quadrants.spec)

    assert "every node on AzureExecutionProvider, found on the CPU: Flatten × 1, MatMul × 1; " in str(error.value)
    assert "\n" not in str(error.value)


@on_azure
def test_nodes_that_were_not_let_are_named_alone_and_how_to_let_them(quadrants):
    with pytest.raises(BackendUnavailable, match=r"on the CPU: MatMul × 1; .*cpu_nodes=Flatten,MatMul$"):
        OnAzure(quadrants.onnx, quadrants.spec, options(cpu_nodes="Flatten"))


def test_onnxruntime_itself_forbids_the_cpu(quadrants, started):
    CudaSession(quadrants.onnx, quadrants.spec, options(io_binding="0"))
    CudaSession(quadrants.onnx, quadrants.spec, options(io_binding="0", device=1))
    CudaSession(quadrants.onnx, quadrants.spec, replace(options(io_binding="0"), tf32=True))

    for call in started:
        assert call.settings.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        assert [name for name, _ in call.providers] == ["CUDAExecutionProvider"]
    assert [call.providers[0][1] for call in started] == [
        {"device_id": 0, "use_tf32": 0},
        {"device_id": 1, "use_tf32": 0},
        {"device_id": 0, "use_tf32": 1},
    ]


@on_azure
def test_an_onnxruntime_that_cannot_tell_its_nodes_refuses_them_all_the_same(monkeypatch, quadrants):
    monkeypatch.delattr(onnxruntime.InferenceSession.__mro__[1], "get_provider_graph_assignment_info")

    with pytest.raises(BackendUnavailable, match=r"found on the CPU: some of them; .*cpu_nodes=OPERATOR,OPERATOR$"):
        OnAzure(quadrants.onnx, quadrants.spec)
    with pytest.raises(ConfigError, match=r"expected onnxruntime 1\.24 or later with cpu_nodes, found \d"):
        OnAzure(quadrants.onnx, quadrants.spec, options(cpu_nodes=ALL))


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("cls", [CudaSession, OrtTensorRTSession])
def test_a_provider_that_does_not_start_is_told_from_one_that_leaves_nodes(monkeypatch, quadrants, cls):
    monkeypatch.setattr(cls, "unavailable", classmethod(lambda cls, device: None))
    if REASONS[cls.name] is None:
        pytest.skip(f"{cls.provider} may start here")

    with pytest.raises(
        BackendUnavailable, match=rf"^{cls.name}: onnxruntime could not start {cls.provider} \("
    ) as error:
        cls(quadrants.onnx, quadrants.spec)
    assert cls.needs in str(error.value)


@on_azure
def test_what_is_no_model_is_no_matter_of_nodes(quadrants):
    with pytest.raises(BundleError, match=r"onnxruntime-cuda cannot load the model"):
        OnAzure(b"no model", quadrants.spec)


@on_azure
@pytest.mark.parametrize(
    ("asked", "runs"),
    [({"io_binding": "0"}, 0), ({}, 3), ({"enable_cuda_graph": "1"}, 3)],
    ids=["without binding", "with binding", "with binding and graph"],
)
def test_each_form_answers_the_same_and_is_what_it_says(monkeypatch, quadrants, asked, runs):
    bound, run = [], Bindings.run
    monkeypatch.setattr(Bindings, "run", lambda self, images: bound.append(len(images)) or run(self, images))

    with OnAzure(quadrants.onnx, quadrants.spec, options(cpu_nodes=ALL, **asked)) as session:
        for n in (1, 3, 1):
            np.testing.assert_allclose(session.run(batch_of(n)), quadrants.logits(batch_of(n)), atol=1e-6)
    session.close()

    assert len(bound) == runs


@on_azure
def test_an_error_in_a_bound_query_is_one_line(monkeypatch, quadrants):
    def fails(self, images):
        raise RuntimeError("CUDA failure 700:\nillegal address")

    monkeypatch.setattr(Bindings, "run", fails)
    with (
        OnAzure(quadrants.onnx, quadrants.spec, options(cpu_nodes=ALL)) as session,
        pytest.raises(BackendUnavailable, match=r"^onnxruntime-cuda cannot run the model: CUDA failure 700: illegal"),
    ):
        session.run(batch_of(1))


def test_tensorrt_gets_its_batches_a_cache_and_no_precision(quadrants, started, tmp_path):
    asked = options(device=1, cache=Cache(tmp_path), io_binding="0", max_batch="4", trt_builder_optimization_level="5")

    OrtTensorRTSession(quadrants.onnx, quadrants.spec, asked)

    (call,) = started
    ((name, found),) = call.providers  # and CUDA is no provider besides
    assert name == "TensorrtExecutionProvider"
    assert (found.pop("device_id"), found.pop("trt_builder_optimization_level")) == (1, "5")
    folder = Path(found.pop("trt_engine_cache_path"))
    assert folder.is_dir()
    assert folder.parent == Path(found.pop("trt_timing_cache_path")) == tmp_path / "onnxruntime-tensorrt"
    assert found == {
        "trt_engine_cache_enable": "True",
        "trt_timing_cache_enable": "True",
        "trt_profile_min_shapes": "image:1x1x8x8",
        "trt_profile_opt_shapes": "image:4x1x8x8",
        "trt_profile_max_shapes": "image:4x1x8x8",
    }
    assert call.settings.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


@on_azure
@pytest.mark.parametrize("asked", [{}, {"io_binding": "0"}])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_tensorrt_is_asked_for_batches_it_was_built_for(monkeypatch, quadrants, asked, n):
    sent, query = [], CudaSession._query
    monkeypatch.setattr(CudaSession, "_query", lambda self, images: sent.append(len(images)) or query(self, images))
    batches = {"min_batch": "2", "opt_batch": "2", "max_batch": "3"}

    with TensorRTOnAzure(quadrants.onnx, quadrants.spec, options(cpu_nodes=ALL, **batches, **asked)) as session:
        np.testing.assert_allclose(session.run(batch_of(n)), quadrants.logits(batch_of(n)), atol=1e-6)

    assert sent == {1: [2], 2: [2], 3: [3], 5: [3, 2], 8: [3, 3, 2]}[n]


@on_azure
def test_a_kept_engine_that_cannot_be_loaded_is_built_again(monkeypatch, quadrants, tmp_path):
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    asked = options(cache=Cache(tmp_path), cpu_nodes=ALL)
    TensorRTOnAzure(quadrants.onnx, quadrants.spec, asked).close()
    (folder,) = (tmp_path / "onnxruntime-tensorrt").iterdir()
    (folder / "half.engine").write_bytes(b"half an engine")
    start = onnxruntime.InferenceSession

    def reads_the_engine(*arguments, **named):
        if any(folder.iterdir()):
            raise EPFail("TensorRT EP could not deserialize engine from cache")
        return start(*arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", reads_the_engine)

    with TensorRTOnAzure(quadrants.onnx, quadrants.spec, asked) as session:
        np.testing.assert_allclose(session.run(batch_of(2)), quadrants.logits(batch_of(2)), atol=1e-6)
    assert not any(folder.iterdir())


@on_azure
def test_an_engine_that_cannot_be_built_is_not_tried_twice(monkeypatch, quadrants):
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    tries = []

    def fails(*arguments, **named):
        tries.append(arguments)
        raise EPFail("TensorRT EP failed to create engine")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(BundleError, match=r"onnxruntime-tensorrt cannot load the model: TensorRT EP failed"):
        TensorRTOnAzure(quadrants.onnx, quadrants.spec)
    assert len(tries) == 1


def test_what_is_missing_of_cuda_is_not_said_on_stdout(monkeypatch, capsys, quadrants, started):
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcudnn\n"), raising=False
    )

    CudaSession(quadrants.onnx, quadrants.spec, options(io_binding="0"))

    assert tuple(capsys.readouterr()) == ("", "Failed to load libcudnn\n")


def test_onnxruntime_before_1_21_has_nothing_to_preload(monkeypatch, quadrants, started):
    monkeypatch.delattr(onnxruntime, "preload_dlls", raising=False)

    CudaSession(quadrants.onnx, quadrants.spec, options(io_binding="0"))

    assert len(started) == 1


@pytest.mark.parametrize(
    ("cls", "option"), [(CudaSession, "enable_cuda_graph"), (OrtTensorRTSession, "trt_cuda_graph_enable")]
)
@pytest.mark.parametrize("graphs", [True, False])
def test_cuda_graphs_are_asked_for_as_of_every_backend(quadrants, started, graphs, cls, option):
    given = for_batch(cls.name, {} if graphs else {"io_binding": "0"}, 3)
    asked = SessionOptions(cuda_graph=graphs, provider_options=given)
    try:
        cls(quadrants.onnx, quadrants.spec, asked)
    except AttributeError:  # the stand-in of onnxruntime's session binds nothing
        assert graphs
    ((_, found),) = started[0].providers
    assert found.get(option) == ("True" if graphs else None)
    shapes = {found[key] for key in found if key.startswith("trt_profile")}
    assert shapes == ({f"{quadrants.spec.input.name}:3x1x8x8"} if cls is OrtTensorRTSession else set())


FORMS = [
    ("onnxruntime-cuda", {"io_binding": "0"}),
    ("onnxruntime-cuda", {}),
    ("onnxruntime-cuda", {"enable_cuda_graph": "1"}),
    ("onnxruntime-tensorrt", {"io_binding": "0"}),
    ("onnxruntime-tensorrt", {}),
    (
        "onnxruntime-tensorrt",
        {"trt_cuda_graph_enable": "1", **dict.fromkeys(("min_batch", "opt_batch", "max_batch"), "3")},
    ),
]


@pytest.mark.gpu
@pytest.mark.parametrize(("backend", "asked"), FORMS)
def test_on_a_gpu_each_form_answers_as_numpy_does(quadrants, backend, asked):
    if REASONS[backend] is not None:
        pytest.skip(REASONS[backend])
    with open_session(backend, quadrants.onnx, quadrants.spec, SessionOptions(provider_options=asked)) as session:
        for _ in range(3):  # the first captures, the others replay
            for n in (1, 3, 64, 70):
                np.testing.assert_allclose(session.run(batch_of(n)), quadrants.logits(batch_of(n)), atol=1e-5)
                np.testing.assert_allclose(session.run(-batch_of(n)), -quadrants.logits(batch_of(n)), atol=1e-5)

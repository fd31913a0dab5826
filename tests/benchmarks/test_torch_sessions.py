import contextlib
import shutil
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from quillrt.benchmarks import torch_sessions
from quillrt.benchmarks.torch_sessions import Captured, CompileSession, EagerSession, open_torch_session, set_tf32
from quillrt.runtime.device import Device, Gpu
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError, SpecError
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint, save_checkpoint
from quillrt.train.models import build_model


@pytest.fixture
def checkpoint():
    torch.manual_seed(0)
    spec = character_spec(tuple("abc"), Preprocessing(height=8, width=8))
    return Checkpoint.of("cnn", spec, build_model("cnn", 3, 8, 8).state_dict(), {})


@pytest.fixture
def batch():
    return np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)


def expected(checkpoint, batch):
    with torch.no_grad():
        return checkpoint.module()(torch.from_numpy(batch)).numpy()


def test_eager_is_the_module(checkpoint, batch):
    before = torch.get_num_threads()
    with EagerSession(checkpoint, SessionOptions(threads=1)) as session:
        np.testing.assert_allclose(session.run(batch), expected(checkpoint, batch), rtol=1e-5, atol=1e-6)
        assert torch.get_num_threads() == 1
        assert session.spec == checkpoint.spec
        with pytest.raises(SpecError):
            session.run(batch.astype(np.float64))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_on_only_where_allowed(allowed):
    switches = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee" if allowed else "tf32"
        set_tf32(torch.backends, allowed=allowed)
        assert [switch.fp32_precision for switch in switches] == ["tf32" if allowed else "ieee"] * 2
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def test_fp32_is_no_tf32_with_the_names_before_torch_2_9():
    backends = SimpleNamespace(
        cudnn=SimpleNamespace(allow_tf32=True), cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=True))
    )
    set_tf32(backends, allowed=False)
    assert not backends.cudnn.allow_tf32
    assert not backends.cuda.matmul.allow_tf32
    set_tf32(backends, allowed=True)
    assert backends.cudnn.allow_tf32
    assert backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_half_precisions_compute_so_and_answer_in_float32(checkpoint, batch, precision):
    exact = expected(checkpoint, batch)
    with EagerSession(checkpoint, precision=precision) as session:
        logits = session.run(batch)
    assert logits.dtype == np.float32
    half = torch.float16 if precision is Precision.FP16 else torch.bfloat16
    assert torch.equal(torch.from_numpy(logits).to(half).float(), torch.from_numpy(logits))  # nothing finer came out
    error = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
    assert 0 < error < 2 * torch.finfo(half).eps


def test_a_captured_network_is_recorded_once_for_each_shape_and_replayed_on_new_images(monkeypatch):
    """torch.cuda stands in: its graph calls again, at each replay, what was called while it was captured."""
    calls = []

    class Graph:
        def replay(self):
            for inputs, output in self.recorded:
                output.copy_(inputs * 2)

    class Capture:
        def __init__(self, graph):
            self.graph = graph

        def __enter__(self):
            self.graph.recorded = calls
            calls.clear()

        def __exit__(self, *error):
            self.graph.recorded = list(calls)

    def network(images):
        calls.append((images, images * 2))
        return calls[-1][1]

    stream = SimpleNamespace(wait_stream=lambda other: None)
    stand_ins = {"Stream": lambda: stream, "current_stream": lambda: stream, "CUDAGraph": Graph, "graph": Capture}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())

    captured = Captured(network)
    for images in (torch.ones(2, 3), torch.full((2, 3), 5.0), torch.ones(1, 3), torch.full((2, 3), 7.0)):
        assert torch.equal(captured(images), images * 2)
    assert len(captured._graphs) == 2


def test_a_mode_reaches_torch_compile_and_a_wrong_one_is_refused(monkeypatch, checkpoint, tmp_path):
    modes = []
    monkeypatch.setattr(torch, "compile", lambda network, dynamic, mode: modes.append(mode) or network)
    monkeypatch.setattr("quillrt.train.devices.check_compiler", lambda device: None)
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, checkpoint)
    for options in ({}, {"mode": "max-autotune"}):
        open_torch_session("torch-compile", path, SessionOptions(provider_options=options)).close()
    assert modes == ["default", "max-autotune"]
    for name, options in (("torch-compile", {"mode": "fastest"}), ("eager", {"mode": "default"})):
        with pytest.raises(ConfigError, match=f"expected mode of {name} to be"):
            open_torch_session(name, path, SessionOptions(provider_options=options))


needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or not (Path(sysconfig.get_path("include")) / "Python.h").exists(),
    reason="torch.compile needs g++ and Python's headers",
)


@pytest.mark.slow
@needs_compiler
def test_compiled_is_the_module(checkpoint, batch):
    with CompileSession(checkpoint, SessionOptions(threads=1)) as session:
        np.testing.assert_allclose(session.run(batch), expected(checkpoint, batch), rtol=1e-4, atol=1e-5)


def test_compile_without_a_compiler_says_what_to_install(checkpoint, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendUnavailable, match=r"no-such-compiler.*apt install g\+\+"):
        CompileSession(checkpoint)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_says_so(checkpoint):
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        EagerSession(checkpoint, device="cuda")


@pytest.mark.parametrize(
    ("capability", "cuda", "missing", "name", "told"),
    [
        ("9.0", "13.0", "torch", "eager", "the package torch"),
        (None, None, "", "eager", None),
        (None, "13.0", "", "eager-cuda", "an NVIDIA GPU: no driver"),
        ("8.7", None, "", "eager-cuda", "a torch with CUDA"),
        ("8.7", "12.6", "triton", "eager-cuda", None),
        ("8.7", "12.6", "triton", "torch-compile-cuda", "the package triton"),
        ("6.2", "12.6", "", "torch-compile-cuda", "compute capability 7.0"),
        ("9.0", "13.0", "", "torch-compile-cuda", None),
    ],
)
def test_what_a_machine_lacks_is_told_without_loading_torch(monkeypatch, capability, cuda, missing, name, told):
    gpus = () if capability is None else (Gpu("a GPU", capability, "13.0", 2**33),)
    device = Device("cpu", "x86_64", 1, (), gpus, None if gpus else "no driver")
    monkeypatch.setattr(torch_sessions, "describe_device", lambda: device)
    monkeypatch.setattr(torch_sessions, "run_path", lambda path: {"cuda": cuda})
    found = SimpleNamespace(origin="torch/__init__.py")
    monkeypatch.setattr(torch_sessions, "find_spec", lambda package: None if package == missing else found)
    reason = torch_sessions.why_unavailable(name)
    assert reason is None if told is None else f"backend {name} needs {told}" in reason


def test_torch_tells_of_its_cuda_as_its_file_does():
    version = Path(torch.__file__).with_name("version.py")
    assert torch_sessions.run_path(str(version))["cuda"] == torch.version.cuda


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")
def test_eager_on_the_gpu_is_the_module(checkpoint, batch):
    with EagerSession(checkpoint, device="cuda") as session:
        np.testing.assert_allclose(session.run(batch), expected(checkpoint, batch), rtol=1e-4, atol=1e-5)


def test_by_name(checkpoint, batch, tmp_path):
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, checkpoint)
    with open_torch_session("eager", path) as session:
        np.testing.assert_allclose(session.run(batch), expected(checkpoint, batch), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="torch-compile-cuda"):
        open_torch_session("lazy", path)
    with pytest.raises(CheckpointError):
        open_torch_session("eager", tmp_path / "none.safetensors")


def test_channels_last_changes_the_layout_and_no_answer(checkpoint, batch):
    options = SessionOptions(threads=1, provider_options={"memory_format": "channels_last"})
    with EagerSession(checkpoint, options) as session:
        convolution = next(each for each in session._network.modules() if isinstance(each, torch.nn.Conv2d))
        # One input channel lies the same either way: only a weight with more of them shows the layout.
        deep = [each.weight for each in session._network.modules() if isinstance(each, torch.nn.Conv2d)][-1]
        assert deep.is_contiguous(memory_format=torch.channels_last)
        assert convolution.weight.dtype == torch.float32
        np.testing.assert_allclose(session.run(batch), expected(checkpoint, batch), rtol=1e-4, atol=1e-5)


def test_autocast_computes_in_bfloat16_with_weights_in_fp32(checkpoint, batch):
    seen = []
    options = SessionOptions(threads=1, provider_options={"autocast": "bfloat16"})
    with EagerSession(checkpoint, options, precision=Precision.BF16) as session:
        layer = next(each for each in session._network.modules() if isinstance(each, torch.nn.Conv2d))
        layer.register_forward_hook(lambda module, inputs, output: seen.append((module.weight.dtype, output.dtype)))
        found = session.run(batch)
    assert seen == [(torch.float32, torch.bfloat16)]
    assert found.dtype == np.float32
    exact = expected(checkpoint, batch)
    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(("key", "value"), [("memory_format", "channels_first"), ("autocast", "float16")])
def test_an_option_of_eager_with_another_value_is_refused(checkpoint, tmp_path, key, value):
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, checkpoint)
    with pytest.raises(ConfigError, match=f"expected {key} of eager to be one of"):
        open_torch_session("eager", path, SessionOptions(provider_options={key: value}))

import shutil
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from quillrt.benchmarks.torch_sessions import CompileSession, EagerSession, forbid_tf32, open_torch_session
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError, SpecError
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


def test_fp32_is_no_tf32():
    switches = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "tf32"
        forbid_tf32(torch.backends)
        assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def test_fp32_is_no_tf32_with_the_names_before_torch_2_9():
    backends = SimpleNamespace(
        cudnn=SimpleNamespace(allow_tf32=True), cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=True))
    )
    forbid_tf32(backends)
    assert not backends.cudnn.allow_tf32
    assert not backends.cuda.matmul.allow_tf32


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

"""PyTorch programs as a device runs them: the contract of backends, and what must not be opened by itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from quillrt.runtime.backends import BY_NAME, open_session, why_unavailable
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.errors import BackendUnavailable, BundleError, SpecError
from quillrt.runtime.precision import Precision
from quillrt.runtime.pt2 import built_here, misfit
from quillrt.runtime.select import open_fitting, why_not
from quillrt.runtime.session import SessionOptions

torch = pytest.importorskip("torch")


class Quadrants(torch.nn.Module):
    """What the fixture ``quadrants`` is in ONNX: 4 x the mean of each quadrant."""

    def forward(self, image):
        return 4 * torch.nn.functional.avg_pool2d(image, 4).flatten(1)


@pytest.fixture(scope="module")
def program():
    example = (torch.zeros(2, 1, 8, 8),)
    return torch.export.export(Quadrants(), example, dynamic_shapes=({0: torch.export.Dim("batch")},))


@pytest.fixture(scope="module", params=BY_NAME)
def backend(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(backend, program) -> bytes:
    from quillrt.compile.pt2 import compiled, saved

    try:
        return saved(program) if backend == "pytorch" else compiled(program)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def session(backend, model, quadrants):
    with open_session(backend, model, quadrants.spec, SessionOptions(threads=1)) as session:
        yield session


def batch_of(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 3, 64])
def test_logits_are_those_of_numpy(session, quadrants, n) -> None:
    logits = session.run(batch_of(n))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, quadrants.logits(batch_of(n)), atol=1e-6)


def test_an_answer_stays_and_a_batch_may_lie_in_pieces(session, quadrants) -> None:
    batch = batch_of(6)[::2, :, ::-1, ::-1]
    first = session.run(batch)
    session.run(-batch.copy())
    np.testing.assert_allclose(first, quadrants.logits(batch.copy()), atol=1e-6)


def test_a_batch_that_does_not_fit_is_refused(session) -> None:
    with pytest.raises(SpecError, match="input 'image' must be"):
        session.run(batch_of(2)[:, :, :7])


def test_closing_gives_threads_and_folder_back(backend, model, quadrants, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = torch.get_num_threads()
    session = open_session(backend, model, quadrants.spec, SessionOptions(threads=before + 1))
    assert torch.get_num_threads() == before + 1
    session.close()
    session.close()
    assert torch.get_num_threads() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda m: b"no model", lambda m: m[: len(m) // 2], lambda m: m.replace(b"1", b"2")])
def test_a_damaged_file_is_refused_in_one_line(backend, model, quadrants, damage, capfd) -> None:
    with pytest.raises(BundleError) as error:
        open_session(backend, damage(model), quadrants.spec)
    assert str(error.value).startswith(f"{backend} cannot load the model: ")
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_closed_session_says_so(backend, model, quadrants) -> None:
    session = open_session(backend, model, quadrants.spec)
    session.close()
    with pytest.raises(BackendUnavailable, match=r"^expected an open session, found a closed one: open another$"):
        session.run(batch_of(1))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, name) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert why_unavailable(name) == f"backend {name} needs the package torch: pip install 'quillrt[pytorch]'"


@pytest.mark.parametrize(
    ("fact", "value", "told"),
    [
        ("torch", "1.13.0", r"is built for torch 1\.13\.0, here is "),
        ("machine", "vax", "is built for a machine vax, here is "),
        ("cpu_capability", "ABACUS", "is built for CPU capability ABACUS, here is "),
        ("instructions", ["abacus_int8"], "is built for a CPU with abacus_int8, this one has none"),
    ],
)
def test_native_code_of_another_torch_or_cpu_is_refused(fact, value, told) -> None:
    facts = {"precision": Precision.FP32, "backends": ("pytorch-aot",)}
    entry, _ = entry_for(b"", "model.pt2", "engine", built_for=built_here(), **facts)
    assert why_not(entry, "pytorch-aot") is misfit(entry) is None
    other = replace(entry, built_for={**entry.built_for, fact: value})
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(why_not(other, "pytorch-aot"))


@pytest.fixture
def bundle(tmp_path, quadrants) -> Bundle:
    """Its only files are code, and it claims that they are the fastest."""
    facts = {"precision": Precision.FP32, "built_for": built_here()}
    files = [entry_for(name.encode(), f"{name}.pt2", "engine", backends=(name,), **facts) for name in BY_NAME]
    preferred = {"path": "pytorch-aot.pt2", "backend": "pytorch-aot"}
    write_bundle(tmp_path / "a.quill", quadrants.spec, {"kind": "checkpoint"}, files, preferred)
    return Bundle.open(tmp_path / "a.quill")


def test_code_is_not_opened_unless_asked_for_by_name(bundle, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr("quillrt.runtime.select.open_session", lambda name, *rest: opened.append(name))
    with pytest.raises(BackendUnavailable, match=r"runs code out of the bundle.*--backend pytorch-aot"):
        open_fitting(bundle)
    assert opened == []
    for name in BY_NAME:
        assert open_fitting(bundle, name)[2] == name
    assert opened == list(BY_NAME)


def test_bench_lists_code_with_the_reason_and_runs_it_when_named(bundle) -> None:
    from quillrt.benchmarks.contestants import bundle_contestants

    reasons = {c.backend: c.reason for c in bundle_contestants(bundle) if c.backend in BY_NAME}
    assert all(reasons[name].endswith(f"--backend {name}") for name in BY_NAME)
    named = {c.backend: c.reason for c in bundle_contestants(bundle, ["pytorch"])}
    assert named["pytorch"] is None
    assert named["pytorch-aot"].endswith("--backend pytorch-aot")


def test_a_package_opens_where_nothing_but_the_runtime_was_imported(tmp_path, backend, model, quadrants) -> None:
    """Here the compiler has imported parts of torch that a device would lack."""
    facts = {"precision": Precision.FP32, "backends": (backend,), "built_for": built_here()}
    write_bundle(tmp_path / "a.quill", quadrants.spec, {"kind": "onnx"}, [entry_for(model, "m.pt2", "engine", **facts)])
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom quillrt.runtime.bundle import Bundle\n"
        "from quillrt.runtime.select import open_fitting\n"
        "session = open_fitting(Bundle.open(Path(sys.argv[1])), sys.argv[2])[0]\n"
        "print(session.run(np.ones((1, 1, 8, 8), np.float32))[0].tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.quill"), backend]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "[4.0, 4.0, 4.0, 4.0]\n", done.stderr

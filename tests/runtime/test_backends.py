"""One contract, kept by every backend that works on this machine."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from quillrt.runtime.backends import BACKENDS, BY_NAME, ONNX_ON_CPU, open_session, why_unavailable
from quillrt.runtime.errors import BackendUnavailable, BundleError, ConfigError, QuillError, SpecError
from quillrt.runtime.ort_options import OPTIONS
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.spec import TensorSpec
from quillrt.runtime.tensorrt_api import FAMILIES

REASONS = {name: why_unavailable(name) for name in BACKENDS}


# Those of BY_NAME open no ONNX graph: tests/runtime/test_pt2.py holds them to the same.
@pytest.fixture(params=[name for name, reason in REASONS.items() if reason is None and name not in BY_NAME])
def backend(request):
    return request.param


@pytest.fixture
def model(backend, quadrants):
    if backend in FAMILIES:
        from quillrt.runtime.trt_build import build_engine

        return build_engine(quadrants.onnx, backend).engine
    if backend == "litert":
        import onnx

        from quillrt.compile.litert import to_litert

        return to_litert(onnx.load_from_string(quadrants.onnx))[0]
    return quadrants.onnx


@pytest.fixture
def session(backend, model, quadrants):
    with open_session(backend, model, quadrants.spec, SessionOptions(threads=1)) as session:
        yield session


def batch_of(n):
    """Black and white pixels only: -1 and 1 are exact in every precision, TF32 and FP16 too."""
    return np.random.default_rng(n).choice(np.array([-1, 1], np.float32), (n, 1, 8, 8))


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_a_backend_that_is_left_out_here_has_a_reason(name, reason):
    if reason is not None:
        assert name in reason
        assert "\n" not in reason
        pytest.skip(reason)


@pytest.mark.parametrize("n", [1, 3, 64])
def test_logits_are_those_of_numpy(session, quadrants, n):
    logits = session.run(batch_of(n))

    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, quadrants.logits(batch_of(n)), atol=1e-6)


def test_sizes_of_batches_come_in_any_order(session, quadrants):
    for n in (2, 5, 1, 7, 3, 7, 9, 2, 3, 1):
        np.testing.assert_allclose(session.run(batch_of(n)), quadrants.logits(batch_of(n)), atol=1e-6)


def test_an_answer_stays_as_it_is_when_the_next_is_asked(session, quadrants):
    first = session.run(batch_of(3))
    session.run(-batch_of(3))

    np.testing.assert_allclose(first, quadrants.logits(batch_of(3)), atol=1e-6)


def test_a_batch_need_not_lie_in_one_piece_of_memory(session, quadrants):
    batch = batch_of(6)[::2, :, ::-1, ::-1]

    np.testing.assert_allclose(session.run(batch), quadrants.logits(batch.copy()), atol=1e-6)


@pytest.mark.parametrize(
    "batch",
    [
        batch_of(2).astype(np.float64),
        batch_of(2)[:, 0],
        batch_of(2)[:, :, :7],
        batch_of(2)[:0],
        np.full((1, 1, 8, 8), np.nan, np.float32),
        np.full((1, 1, 8, 8), -np.inf, np.float32),
    ],
    ids=["float64", "no channels", "7 x 8", "empty", "NaN", "infinite"],
)
def test_a_batch_that_does_not_fit_is_refused(session, batch):
    with pytest.raises(SpecError, match="input 'image' must be"):
        session.run(batch)


def test_a_session_knows_its_spec(session, quadrants):
    assert session.spec == quadrants.spec


def test_closing_twice_does_no_harm(backend, model, quadrants):
    session = open_session(backend, model, quadrants.spec)

    session.close()
    session.close()


def test_a_closed_session_says_so(backend, model, quadrants):
    session = open_session(backend, model, quadrants.spec)
    session.close()

    with pytest.raises(BackendUnavailable, match=r"^expected an open session, found a closed one: open another$"):
        session.run(batch_of(1))


def test_what_is_no_model_is_refused_in_one_line(backend, quadrants):
    with pytest.raises(QuillError) as error:
        open_session(backend, b"no model of any kind", quadrants.spec)

    assert backend in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backend", "package"),
    [
        ("onnxruntime-cpu", "onnxruntime"),
        ("onnxruntime-cuda", "onnxruntime"),
        ("onnxruntime-tensorrt", "onnxruntime"),
        ("openvino", "openvino"),
        ("litert", "ai_edge_litert"),
    ],
)
def test_a_package_that_is_there_and_broken_is_no_traceback(monkeypatch, tmp_path, quadrants, backend, package):
    (tmp_path / f"{package}.py").write_text("raise ImportError('made for numpy 1,\\nfound numpy 2')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    told = f"backend {backend} cannot be loaded: made for numpy 1, found numpy 2; install its package again"

    assert why_unavailable(backend) == told
    with pytest.raises(BackendUnavailable) as error:
        open_session(backend, quadrants.onnx, quadrants.spec)
    assert str(error.value) == told


@pytest.mark.parametrize("backend", [name for name in ONNX_ON_CPU if REASONS[name] is None])
def test_a_graph_that_fails_when_it_runs_is_one_line(backend, quadrants):
    spec = replace(quadrants.spec, outputs=(TensorSpec("absent", "float32", (None, 4)),))

    with open_session(backend, quadrants.onnx, spec) as session, pytest.raises(BundleError) as error:
        session.run(batch_of(1))

    assert str(error.value).startswith(f"{backend} cannot run the model: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fixed", ["image", "logits"])
@pytest.mark.parametrize("backend", [name for name in ONNX_ON_CPU if REASONS[name] is None])
def test_a_batch_that_the_graph_refuses_is_refused_each_time_it_is_asked(backend, fixed, quadrants):
    """A graph for one image whose spec promises any number of them, as a bundle that somebody made may have it."""
    import onnx

    model = onnx.load_from_string(quadrants.onnx)
    graph = model.graph
    if fixed == "image":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    else:  # the image is taken, and its answer is not
        graph.node[-1].output[0] = "all"
        graph.node.append(onnx.helper.make_node("Reshape", ["all", "one"], ["logits"]))
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4]), "one"))
    graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1

    with open_session(backend, model.SerializeToString(), quadrants.spec) as session:
        for refused in (False, True, True, False):
            batch = batch_of(1 + refused)
            if refused:
                with pytest.raises(BundleError, match="cannot run the model"):
                    session.run(batch)
            else:
                np.testing.assert_allclose(session.run(batch), quadrants.logits(batch), atol=1e-6)


@pytest.mark.parametrize("ask", [why_unavailable, lambda name: open_session(name, b"", None)])
def test_an_unknown_backend_is_refused_with_the_list_of_known_ones(ask):
    with pytest.raises(ConfigError, match=r"tensorrt, tensorrt-rtx, onnxruntime-tensorrt, .* found 'abacus'"):
        ask("abacus")


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in OPTIONS])
def test_a_backend_without_provider_options_refuses_them(backend):
    with pytest.raises(ConfigError, match=f"no provider options for backend {backend}, .* found enable_cuda_graph"):
        open_session(backend, b"", None, SessionOptions(provider_options={"enable_cuda_graph": "1"}))


@pytest.mark.parametrize(
    ("backend", "package", "remedy"),
    [
        ("onnxruntime-cpu", "onnxruntime", "pip install 'quillrt[ort]'"),
        ("onnxruntime-cuda", "onnxruntime", "pip install onnxruntime-gpu"),
        ("onnxruntime-tensorrt", "onnxruntime", "pip install onnxruntime-gpu"),
        ("openvino", "openvino", "pip install 'quillrt[openvino]'"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, quadrants, backend, package, remedy):
    monkeypatch.setitem(sys.modules, package, None)

    assert why_unavailable(backend).endswith(remedy)
    with pytest.raises(BackendUnavailable, match=f"backend {backend} needs the package {package}"):
        open_session(backend, quadrants.onnx, quadrants.spec)


@pytest.mark.parametrize("sizes", [(0,), (-1,), ("3",), "8", 8, {7}, (2.5,), (True,), (np.int64(7),)])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ConfigError, match="expected as batch_sizes a tuple of whole numbers of 1 or more, found"):
        SessionOptions(batch_sizes=sizes)

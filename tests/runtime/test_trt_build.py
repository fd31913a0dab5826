"""Real TensorRT-RTX builds of tiny graphs; they need no GPU."""

import signal

import numpy as np
import pytest

from quillrt.runtime import trt_build, trt_capabilities
from quillrt.runtime.build_options import BuildOptions, Profile
from quillrt.runtime.errors import BackendUnavailable, BuildError, ConfigError
from quillrt.runtime.tensorrt_api import Log, TensorRT, load
from quillrt.runtime.trt_build import build_engine

pytestmark = pytest.mark.tensorrt
onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip

RTX = "tensorrt-rtx"


@pytest.fixture(autouse=True)
def _builder():
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")


def _model(nodes, constants, batch="N", outputs=("logits",), shape=(1, 8, 8)):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4]) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


_RANDOM = np.random.default_rng(0)
_FILTERS = _RANDOM.normal(size=(16, 1, 3, 3)).astype(np.float32)
_WEIGHTS = _RANDOM.normal(size=(16 * 6 * 6, 4)).astype(np.float32)


def _float_graph(dtype=np.float32, **kwargs):
    """Convolution, ReLU and matrix product computed in ``dtype`` between float32 ends."""
    inside = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=inside),
        helper.make_node("Conv", ["x", "filters"], ["c"], name="conv1"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "weights"], ["m"], name="fc1"),
        helper.make_node("Cast", ["m"], ["logits"], to=TensorProto.FLOAT),
    ]
    return _model(nodes, {"filters": _FILTERS.astype(dtype), "weights": _WEIGHTS.astype(dtype)}, **kwargs)


def _int8_graph(zero_point=0):
    """The same with an int8 convolution and a float32 matrix product."""
    zero = np.array(zero_point, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["filters", "filter_scale"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv1"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "weights"], ["logits"], name="fc1"),
    ]
    filters = np.clip(np.round(_FILTERS / 0.03), -127, 127).astype(np.int8)
    scales = {"scale": np.float32(0.02), "filter_scale": np.float32(0.03)}
    return _model(nodes, {"zero": zero, "filters": filters, "weights": _WEIGHTS, **scales})


def _fp8_graph():
    """A matrix product with FP8 operands."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    nodes = []
    for tensor in ("image", "weights"):
        nodes += [
            helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"{tensor}_q"]),
            helper.make_node("DequantizeLinear", [f"{tensor}_q", "scale", "zero"], [f"{tensor}_d"]),
        ]
    nodes.append(helper.make_node("MatMul", ["image_d", "weights_d"], ["logits"], name="fc1"))
    zero = np.zeros((), ml_dtypes.float8_e4m3fn)
    return _model(nodes, {"weights": _WEIGHTS, "scale": np.float32(0.02), "zero": zero}, shape=(16 * 6 * 6,))


class TestAttestation:
    def test_float32_graph_is_built_in_float32(self):
        built = build_engine(_float_graph(), RTX)
        assert built.precisions() == {"fp32": 2}
        assert built.family == RTX
        assert built.seconds > 0
        assert len(built.engine) > _WEIGHTS.nbytes

    def test_float16_graph_is_built_in_float16(self):
        built = build_engine(_float_graph(np.float16), RTX)
        assert built.precisions() == {"fp16": 2}

    def test_int8_convolution_is_built_in_int8_and_the_rest_is_not(self):
        built = build_engine(_int8_graph(), RTX)
        assert built.precisions() == {"int8": 1, "fp32": 1}
        by_node = {node: layer.datatype for layer in built.layers if layer.is_product for node in layer.nodes}
        assert by_node["conv1"] == "int8"
        assert by_node["fc1"] == "fp32"


class TestRefusals:
    def test_asymmetric_int8(self):
        with pytest.raises(BuildError) as caught:
            build_engine(_int8_graph(zero_point=3), RTX)
        message = str(caught.value)
        assert "node 'quantize' (QuantizeLinear)" in message
        assert "Non-zero zero point is not supported" in message
        assert "\n" not in message

    @pytest.mark.parametrize("data", [b"", b"this is no ONNX graph" * 9], ids=["empty", "garbage"])
    def test_no_graph(self, data):
        with pytest.raises(BuildError, match="ONNX"):
            build_engine(data, RTX)

    def test_graph_without_output(self):
        with pytest.raises(BuildError, match="expected an ONNX graph with outputs, found none"):
            build_engine(_float_graph(outputs=()), RTX)

    def test_dynamic_image_size(self):
        with pytest.raises(BuildError, match=r"whose batch alone is dynamic, found 'image' of shape \(-1, 1, -1, 8\)"):
            build_engine(_float_graph(shape=(1, "H", 8)), RTX)

    def test_too_small_a_workspace_ends_with_the_builders_reason(self):
        with pytest.raises(BuildError, match="within workspace limit") as caught:
            build_engine(_float_graph(), RTX, BuildOptions(workspace_bytes=1024))
        assert "cudaError 35" not in str(caught.value)
        assert "/_src/" not in str(caught.value)

    def test_batches_out_of_order(self):
        with pytest.raises(ConfigError, match="1 <= MIN <= OPT <= MAX, found 4:2:8"):
            Profile.parse("4:2:8")

    def test_unknown_compute_capability_lists_the_known(self):
        with pytest.raises(ConfigError, match=r"builds for compute capability 7\.5, .*8\.9.*; found 9\.0"):
            build_engine(_float_graph(), RTX, BuildOptions(compute_capabilities=("9.0",)))

    def test_full_tensorrt_without_gpu(self, monkeypatch):
        def no_gpu(device):
            raise BackendUnavailable("no NVIDIA driver (libcuda.so.1: no such file)")

        class Module:
            """Full TensorRT: it has no class ComputeCapability."""

        tensorrt = TensorRT("tensorrt", Module, "10.3.0", Log(), None)
        monkeypatch.setattr("quillrt.runtime.trt_build.load", lambda family: tensorrt)
        monkeypatch.setattr("quillrt.runtime.trt_build.find_gpu", no_gpu)
        with pytest.raises(BackendUnavailable, match="tensorrt's builder needs an NVIDIA GPU, found none: no NVIDIA"):
            build_engine(_float_graph(), "tensorrt")
        with pytest.raises(ConfigError, match=r"--compute-capability: .* only tensorrt-rtx takes them"):
            build_engine(_float_graph(), "tensorrt", BuildOptions(compute_capabilities=("8.6",)))


class TestComputeCapabilities:
    def test_default_is_ampere_and_later(self):
        built = build_engine(_float_graph(), RTX)
        assert {"8.6", "8.9", "12.0"} <= set(built.compute_capabilities)
        assert "7.5" not in built.compute_capabilities

    def test_fp8_is_for_ada_and_later(self):
        built = build_engine(_fp8_graph(), RTX)
        assert built.precisions() == {"fp8": 1}
        assert min(map(float, built.compute_capabilities)) == 8.9

    def test_turing_on_request(self):
        built = build_engine(_float_graph(np.float16), RTX, BuildOptions(compute_capabilities=("7.5",)))
        assert built.compute_capabilities == ("7.5",)


def test_full_tensorrt_builds_on_the_gpu_asked_for(monkeypatch, stand_ins):
    cuda, opened = stand_ins.cuda(), []
    full = TensorRT("tensorrt", object(), "10.3.0", Log(), None)
    monkeypatch.setattr(trt_build, "load", lambda family: full)
    monkeypatch.setattr(trt_build, "find_gpu", lambda device: f"GPU {device}")
    monkeypatch.setattr(trt_build, "open_cuda", lambda device: opened.append(device) or cuda)
    monkeypatch.setattr(trt_build, "_build", lambda *given: (given[-1], cuda.inside))
    assert build_engine(b"graph", "tensorrt", device=1) == ("GPU 1", 1)
    assert opened == [1]


def test_fixed_batch_needs_no_profile():
    assert build_engine(_float_graph(batch=2), RTX).precisions() == {"fp32": 2}


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_off_unless_asked_for(monkeypatch, tf32):
    """TensorRT's own default is on, and "fp32" would be TF32. Without a GPU it shows in the configuration only."""
    configs = []
    choose = trt_capabilities._set_compute_capabilities

    def watched(tensorrt, network, config, options):
        configs.append(config)
        return choose(tensorrt, network, config, options)

    monkeypatch.setattr(trt_capabilities, "_set_compute_capabilities", watched)
    build_engine(_float_graph(), RTX, BuildOptions(tf32=tf32))
    assert configs[0].get_flag(load(RTX).module.BuilderFlag.TF32) is tf32


def test_one_build_does_not_inherit_the_reasons_of_another():
    with pytest.raises(BuildError):
        build_engine(_int8_graph(zero_point=3), RTX)
    assert build_engine(_float_graph(), RTX).layers
    assert load(RTX).log.errors == []


def test_ctrl_c_stops_the_build(monkeypatch):
    """TensorRT swallows a KeyboardInterrupt raised in its callbacks; it must reach the caller all the same."""
    take = Log.take

    def interrupted(self, severity, text):
        take(self, severity, text)
        if text.startswith("Graph construction completed"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Log, "take", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_engine(_float_graph(), RTX)
    assert signal.getsignal(signal.SIGINT) is before
    assert load(RTX).log.layers == ""  # the build did not run to its end
    monkeypatch.undo()
    assert build_engine(_float_graph(), RTX).precisions() == {"fp32": 2}

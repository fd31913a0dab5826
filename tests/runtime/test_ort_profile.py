import numpy as np
import pytest

from quillrt.runtime.errors import SpecError

pytest.importorskip("onnxruntime")

from quillrt.runtime.ort import CpuSession
from quillrt.runtime.ort_profile import node_of, profile


def convolution_and_product():
    """Return a graph whose work is nearly all in one convolution, and its spec; results are called as their nodes."""
    from onnx import TensorProto, helper, numpy_helper

    from quillrt.runtime.preprocessing import Preprocessing
    from quillrt.runtime.spec import character_spec

    spec = character_spec(tuple("ab"), Preprocessing(height=32, width=32))
    rng = np.random.default_rng(0)
    weights = {
        "kernels": rng.normal(size=(64, 1, 7, 7)).astype(np.float32),
        "matrix": rng.normal(size=(64, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", [spec.input.name, "kernels"], ["features.conv"], name="features.conv", pads=[3] * 4),
        helper.make_node("Relu", ["features.conv"], ["features.relu"], name="features.relu"),
        helper.make_node("GlobalAveragePool", ["features.relu"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flatten"], name="flatten"),
        helper.make_node("MatMul", ["flatten", "matrix"], [spec.output.name], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(spec.input.name, TensorProto.FLOAT, ["N", 1, 32, 32])],
        [helper.make_tensor_value_info(spec.output.name, TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), spec


def test_each_kernel_has_its_node_its_datatype_and_its_time():
    model, spec = convolution_and_product()
    batch = np.random.default_rng(1).normal(size=(4, 1, 32, 32)).astype(np.float32)
    kernels = profile(model, spec, batch, queries=5)
    nodes = [node for kernel, _ in kernels for node in kernel.nodes]
    # onnxruntime fuses the ReLU into the convolution, and calls both by one of their names.
    assert nodes[0].startswith("features.")
    assert nodes[-1] == "head"
    assert {kernel.datatype for kernel, _ in kernels} == {"fp32"}
    times = dict(zip(nodes, (ms for _, ms in kernels), strict=True))
    assert times[nodes[0]] == max(times.values())
    assert times["head"] > 0


def test_a_session_tells_the_same_kernels_for_any_number_of_queries():
    model, spec = convolution_and_product()
    batch = np.zeros((2, 1, 32, 32), np.float32)
    with CpuSession(model, spec) as session:
        one, many = session.layer_times(batch, 1), session.layer_times(batch, 20)
        with pytest.raises(SpecError):
            session.layer_times(batch[:, :, 1:], 1)
    assert [layer.name for layer in one] == [layer.name for layer in many]
    assert len({layer.name for layer in one}) == len(one)


@pytest.mark.parametrize(
    ("kernel", "node"),
    [
        ("features.conv", "features.conv"),
        ("Conv_token_12", "Conv"),
        ("InsertedPrecisionFreeCast_Relu_nchwc", "Relu"),
        ("InsertedPrecisionFreeCast_fused Gemm", "Gemm"),
        ("fused Gemm", "Gemm"),
    ],
)
def test_a_kernel_is_called_after_its_node(kernel, node):
    assert node_of(kernel) == node

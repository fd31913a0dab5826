"""Folded graphs against ONNX's reference evaluator on the graphs as they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.batchnorm import fold_batch_norms

RNG = np.random.default_rng(0)
NORM = ["scale", "offset", "mean", "variance"]


def built(nodes: list[onnx.NodeProto], **extra: np.ndarray) -> onnx.ModelProto:
    constants = {
        "w": RNG.normal(size=(4, 1, 3, 3)),
        "b": RNG.normal(size=4),
        "scale": RNG.normal(1, 0.5, 4),
        "offset": RNG.normal(size=4),
        "mean": RNG.normal(size=4),
        "variance": RNG.uniform(0.1, 3, 4),
        "head": RNG.normal(size=(3, 4)),
        **extra,
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("GlobalAveragePool", ["last"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "head"], ["logits"], transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items() if k in {*used, "head"}],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(op: str, inputs: list[str], output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], f"{output}_{op}", **attributes)


@pytest.mark.parametrize("bias", [[], ["b"]])
@pytest.mark.parametrize("epsilon", [{}, {"epsilon": 0.1}])
def test_the_answers_stay_and_the_norm_is_gone(bias, epsilon) -> None:
    model = built(
        [
            node("Conv", ["image", "w", *bias], "c"),
            node("BatchNormalization", ["c", *NORM], "n", **epsilon),
            node("Relu", ["n"], "last"),
        ]
    )
    folded = fold_batch_norms(model)
    assert [n.name for n in folded.graph.node][:2] == ["c_Conv", "last_Relu"]
    assert not {t.name for t in folded.graph.initializer} & {"w", "b", *NORM}
    onnx.checker.check_model(folded, full_check=True)
    image = RNG.normal(size=(2, 1, 8, 8)).astype(np.float32)
    expected, found = (ReferenceEvaluator(m).run(None, {"image": image})[0] for m in (model, folded))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "nodes",
    [
        # Two readers want what comes before the norm; an activation lies between; no convolution at all.
        [
            node("Conv", ["image", "w"], "c"),
            node("BatchNormalization", ["c", *NORM], "n"),
            node("Add", ["c", "n"], "last"),
        ],
        [
            node("Conv", ["image", "w"], "c"),
            node("Relu", ["c"], "r"),
            node("BatchNormalization", ["r", *NORM], "last"),
        ],
        [node("Concat", ["image"] * 4, "c", axis=1), node("BatchNormalization", ["c", *NORM], "last")],
    ],
)
def test_what_cannot_be_folded_stays(nodes) -> None:
    model = built(nodes)
    assert fold_batch_norms(model) == model

"""The JSON of EngineInspector in the shapes of TensorRT 10 and of 11 and TensorRT-RTX."""

import json

from quillrt.runtime.trt_inspect import read_information
from quillrt.runtime.trt_layers import LayerInfo

_TEN = {
    "Layers": [
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "image", "Dimensions": [8, 1, 28, 28], "Format/Datatype": "Row major Int8 format"}],
            "Outputs": [{"Name": "x", "Dimensions": [8, 16, 26, 26], "Format/Datatype": "Row major linear FP32"}],
            "Metadata": "[ONNX Layer: conv1]\u001e[ONNX Layer: relu1]",
        },
        {"Name": "shape", "LayerType": "ShapeHostToDevice", "Inputs": [], "Outputs": []},
    ],
    "Bindings": ["image", "logits"],
}
_ELEVEN = {
    "Layers": [
        {
            "Name": "fc1_myl0_3",
            "LayerType": "gemm",
            "Inputs": [{"Name": "f", "Dimensions": [-1, 64], "Datatype": "Half", "Format": "Row major linear format"}],
            "Outputs": [{"Name": "logits", "Dimensions": [-1, 10], "Datatype": "Float"}],
            "Metadata": "[ONNX Layer: fc1]",
        }
    ],
    "I/O Tensors": [{"Name": "image", "IOMode": "Input", "Datatype": "Float"}],
}


def test_tensorrt_10():
    assert read_information(json.dumps(_TEN)) == (
        LayerInfo("conv1 + relu1", "CaskConvolution", "int8", ("conv1", "relu1")),
    )


def test_tensorrt_11_and_rtx():
    assert read_information(json.dumps(_ELEVEN)) == (LayerInfo("fc1_myl0_3", "gemm", "fp16", ("fc1",)),)


def test_an_engine_that_tells_names_alone():
    assert read_information('{"Layers": ["conv1 + relu1", "fc1"], "Bindings": []}') == ()

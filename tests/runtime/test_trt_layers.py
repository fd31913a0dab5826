"""Reading the builder's list of layers in the spellings of several TensorRT versions."""

from quillrt.runtime.trt_layers import LayerInfo, read_layers

# The spellings of TensorRT-RTX 1.7 (cut), of TensorRT 10.6 and of 10.0 ("Format/Datatype", with and without a format).
_RTX = """Layers:
Name: shape_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [ { Name: n, Dimensions: [], \
Datatype: Int64 }], TacticName: , StreamId: 0, Metadata:
Name: conv1_myl0_2, LayerType: correlation, Inputs: [ { Name: r, Dimensions: [-1,4,8,8], Strides: [256,1,32,4], \
Datatype: Int8, Format: (NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [16,4,3,3], \
Datatype: Int8 }, { Name: b, Dimensions: [1,16,1,1], Datatype: Float }], Outputs: [ { Name: y, \
Dimensions: [-1,16,6,6], Datatype: Float }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: conv1][ONNX Layer: relu]
Name: k_3, LayerType: kgen, Inputs: [ { Name: y, Dimensions: [-1,16,6,6], Datatype: BFloat16 }], Constants: [], \
Outputs: [ { Name: z, Dimensions: [-1,576], Datatype: Half }], TacticName: u, StreamId: 0, Metadata: [ONNX Layer: flat]

I/O Tensors:
 Name: image, IOMode: Input, DataType: Float, Dimensions: [-1,1,8,8], Location: Device
"""
_TEN = (
    "Layers:\n"
    "Name: f.0/Conv + f.1/Relu, LayerType: CaskConvolution, Inputs: [ { Name: Reformatted Input Tensor 0 to f.0/Conv, "
    "Location: Device, Dimensions: [1,3,224,224], Format/Datatype: Half }], Outputs: [ { Name: f.1, Location: Device, "
    "Dimensions: [1,64,55,55], Format/Datatype: Half }], ParameterType: Convolution, TacticValue: 0x1, StreamId: 0, "
    "Metadata: [ONNX Layer: f.0/Conv]\x1e[ONNX Layer: f.1/Relu]\n"
    "Name: q, LayerType: Reformat, Inputs: [ { Name: i, Location: Device, Dimensions: [1,3,6,9], "
    "Format/Datatype: Row major linear FP32 }], Outputs: [ { Name: o, Location: Device, Dimensions: [1,3,6,9], "
    "Format/Datatype: Row major Int8 format }], ParameterType: Reformat, Origin: QDQ\n"
    "Name: c, LayerType: CaskGemmConvolution, Inputs: [ { Name: o, Location: Device, Dimensions: [1,32,6,9], "
    "Format/Datatype: Thirty-two wide channel vectorized row major Int8 format }], Outputs: [ { Name: p, "
    "Location: Device, Dimensions: [1,8], Format/Datatype: Channel major FP16 format where channel % 8 == 0 }]"
)


def test_reads_tensorrt_rtx():
    assert read_layers(_RTX) == (
        LayerInfo("conv1_myl0_2", "correlation", "int8", ("conv1", "relu")),
        LayerInfo("k_3", "kgen", "bf16", ("flat",)),
    )


def test_reads_tensorrt_10():
    assert read_layers(_TEN) == (
        LayerInfo("f.0/Conv + f.1/Relu", "CaskConvolution", "fp16", ("f.0/Conv", "f.1/Relu")),
        LayerInfo("q", "Reformat", "fp32", ()),
        LayerInfo("c", "CaskGemmConvolution", "int8", ()),
    )


def test_products_are_told_from_the_rest():
    assert [layer.is_product for layer in read_layers(_RTX)] == [True, False]
    assert [layer.is_product for layer in read_layers(_TEN)] == [True, False, True]


def test_no_list_gives_no_layers():
    assert read_layers("") == ()

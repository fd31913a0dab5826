"""Graphs made by `onnx`, and by hand where its writer would not write them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quillrt.runtime.backends import why_unavailable
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.errors import BundleError
from quillrt.runtime.manifest import Manifest, read_manifest
from quillrt.runtime.onnx_bytes import check_self_contained
from quillrt.runtime.precision import Precision

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - only where there is onnx


def outside(location="weights.bin", name="weight", dims=(64, 4)):
    """A tensor whose values lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def inside(name="weight"):
    return numpy_helper.from_array(np.ones((64, 4), np.float32), name)


def graph_of(*nodes, initializer=(), sparse=()):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    product = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weight"], ["logits"]),
    ]
    return helper.make_graph([*nodes, *product], "g", [image], [logits], initializer, sparse_initializer=sparse)


def model_of(graph, **parts):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, **parts)


def constant(tensor):
    return helper.make_node("Constant", [], [tensor.name], value=tensor)


def branches(tensor):
    """An If whose branches give ``tensor``."""
    end = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, [64, 4])
    branch = helper.make_graph([constant(tensor)], "branch", [], [end])
    return helper.make_node("If", ["image"], ["x"], then_branch=branch, else_branch=branch)


def loop(node, deep):
    """``deep`` loops in one another around ``node``."""
    for _ in range(deep):
        node = helper.make_node("Loop", [], [], body=helper.make_graph([node], "body", [], []))
    return node


def sparse(values, indices):
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[64, 4])


def function(node, default=None):
    made = helper.make_function("mine", "f", [], ["weight"], [node], [helper.make_opsetid("", 17)])
    if default is not None:
        made.attribute_proto.append(helper.make_attribute("value", default))
    return made


def training(tensor):
    return onnx.TrainingInfoProto(algorithm=helper.make_graph([], "a", [], [], [tensor]))


def every_place(tensor, other):
    """Yield a model with ``tensor`` in each place that ONNX has for one; ``other`` fills what must be there, too."""
    yield "initializer", model_of(graph_of(initializer=[other, tensor]))
    yield "constant", model_of(graph_of(constant(tensor)))
    yield "list of tensors", model_of(graph_of(helper.make_node("Mine", [], [], values=[other, tensor])))
    yield "branch", model_of(graph_of(branches(tensor)))
    yield "loops", model_of(graph_of(loop(constant(tensor), 20)))
    yield (
        "list of graphs",
        model_of(graph_of(helper.make_node("Mine", [], [], bodies=[helper.make_graph([], "b", [], [], [tensor])]))),
    )
    yield "values", model_of(graph_of(sparse=[sparse(tensor, other)]))
    yield "indices", model_of(graph_of(sparse=[sparse(other, tensor)]))
    yield (
        "sparse attribute",
        model_of(graph_of(helper.make_node("Constant", [], ["w"], sparse_value=sparse(tensor, other)))),
    )
    yield "function", model_of(graph_of(), functions=[function(constant(tensor))])
    yield "function's default", model_of(graph_of(), functions=[function(constant(other), tensor)])
    training_model = model_of(graph_of())
    training_model.training_info.append(training(tensor))
    yield "training", training_model


PLACES = [name for name, _ in every_place(inside(), inside())]


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_found_wherever_they_stand(place):
    refused = dict(every_place(outside(), inside()))[place].SerializeToString()
    taken = dict(every_place(inside(), inside()))[place].SerializeToString()

    check_self_contained(taken)
    with pytest.raises(BundleError, match=r"expected an ONNX graph .* found weights that lie outside of it"):
        check_self_contained(refused)


@pytest.mark.parametrize("location", ["/etc/passwd", "../x", "x", "", "*/_ORT_MEM_ADDR_/*"])
def test_no_place_outside_is_allowed(location):
    with pytest.raises(BundleError, match="outside of it"):
        check_self_contained(model_of(graph_of(initializer=[outside(location)])).SerializeToString())


def test_a_location_without_a_file_and_a_file_without_a_location_are_refused():
    located = TensorProto(name="weight", data_location=TensorProto.EXTERNAL)
    filed = TensorProto(name="weight")
    filed.external_data.add(key="location", value="x")

    for tensor in (located, filed):
        with pytest.raises(BundleError, match="outside of it"):
            check_self_contained(model_of(graph_of(initializer=[tensor])).SerializeToString())
    check_self_contained(
        model_of(graph_of(initializer=[TensorProto(data_location=TensorProto.DEFAULT)])).SerializeToString()
    )


@pytest.mark.parametrize("domain", ["com.microsoft", ""])
def test_an_engine_in_a_node_is_refused(domain):
    node = helper.make_node("EPContext", [], [], domain=domain, embed_mode=0, ep_cache_context="/tmp/x.engine")

    for graph in (graph_of(node), graph_of(loop(node, 2))):
        with pytest.raises(BundleError, match="found an engine"):
            check_self_contained(model_of(graph).SerializeToString())


def varint(number):
    data = b""
    while number >= 0x80:
        data, number = data + bytes([number & 0x7F | 0x80]), number >> 7
    return data + bytes([number])


def as_graph(tensor):
    """A model of one tensor, by hand."""
    tensor = b"\x2a" + varint(len(tensor)) + tensor
    return b"\x3a" + varint(len(tensor)) + tensor


@pytest.mark.parametrize(
    "tensor",
    [
        b"\x70\x01",
        b"\xf0\x80\x00\x01",  # the field's number written longer than it need be
        b"\x70\x81\x80\x80\x80\x10",  # a number of which the last 32 bits are 1
        b"\x70\x01\x70\x00",  # twice
        b"\x6a\x00",
    ],
    ids=["plain", "long tag", "long number", "twice", "empty entry"],
)
def test_odd_ways_to_write_it_are_seen(tensor):
    with pytest.raises(BundleError, match="outside of it"):
        check_self_contained(as_graph(tensor))


def test_a_graph_in_two_pieces_is_looked_through_whole():
    first, second = (model_of(graph_of(initializer=[t])).SerializeToString() for t in (inside(), outside()))

    for joined in (first + second, second + first):
        assert len(onnx.load_from_string(joined).graph.initializer) == 2  # protobuf merges what stands twice
        with pytest.raises(BundleError, match="outside of it"):
            check_self_contained(joined)


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"\x08\x09",
        b"no model of any kind",
        b"<?xml version='1.0'?><net name='x' version='11'><layers/></net>",  # OpenVINO reads this from memory as well
        b"\x18\x00\x00\x00ORTM" + bytes(100),
        b"\x12\x10\x00\x00ORTM" + bytes(12) + b"\x3a\x00",  # onnxruntime's own format that is valid protobuf, too
        b"\x3a\x05\x00",
        b"\x3a\x02\x2a\x00"[:-1],
        b"\x38\x00",  # a graph that is a number
        as_graph(b"\xea\x80\x80\x80\x10\x00"),  # a field beyond all: protobuf's C++ would see external data
        as_graph(b"\x00\x00"),
        as_graph(b"\x73\x74"),  # a group
        as_graph(b"\x80" * 12),
        as_graph(b"\x08"),
    ],
)
def test_what_is_no_graph_is_refused(model):
    with pytest.raises(BundleError, match="expected an ONNX graph") as error:
        check_self_contained(model)
    assert "\n" not in str(error.value)


def test_a_graph_nests_as_deep_as_it_likes():
    deep = b"\x70\x01"
    for field in (5, *(6, 5, 1) * 5_000, 7):  # a tensor in a graph in an attribute in a node in a graph ...
        deep = bytes([field << 3 | 2]) + varint(len(deep)) + deep

    with pytest.raises(BundleError, match="outside of it"):
        check_self_contained(deep)


def tensors(message):
    """Yield every tensor below ``message``, by protobuf's own description of it."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                yield from tensors(each)


SEEDS = [model.SerializeToString() for _, model in every_place(outside(), outside("y", dims=()))]


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.data())
def test_what_is_taken_has_nothing_outside_by_protobufs_own_reading(data):
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(seed) - 1))
        seed[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        check_self_contained(bytes(seed))
    except BundleError:
        return
    try:
        model = onnx.load_from_string(bytes(seed))
    except Exception:  # noqa: BLE001 - protobuf's own error is of no module that stays
        return
    assert not any(t.data_location or t.external_data for t in tensors(model))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime-cpu"])
def test_a_bundle_with_such_a_graph_is_refused_before_a_backend_sees_it(backend, quadrants, monkeypatch, tmp_path):
    """Both read the file if they get the graph: it lies in the working directory."""
    np.ones((64, 4), np.float32).tofile(tmp_path / "weights.bin")
    model = model_of(graph_of(initializer=[outside()])).SerializeToString()
    entry = entry_for(model, "model.fp32.onnx", "onnx", precision=Precision.FP32, backends=(backend,))
    write_bundle(tmp_path / "model.quill", quadrants.spec, {"kind": "onnx"}, [entry])
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleError, match=r"model\.quill: model\.fp32\.onnx: expected an ONNX graph .* outside of it"):
        Bundle.open(tmp_path / "model.quill")

    if why_unavailable(backend) is None:
        from quillrt.runtime.backends import open_session

        with open_session(backend, model, quadrants.spec) as session:  # else nothing was kept out
            assert session.run(np.ones((1, 1, 8, 8), np.float32)).tolist() == [[64.0] * 4]


@pytest.mark.parametrize("kind", ["engine", "program", "report", "calibration"])
def test_a_graph_cannot_pass_as_another_kind_of_file(kind, quadrants):
    model = model_of(graph_of(initializer=[outside()])).SerializeToString()
    for use in ({"backends": ("openvino",)}, {"typed_for": ("tensorrt",)}):
        entry, _ = entry_for(model, "model.x", kind, precision=Precision.FP32, **use)
        manifest = Manifest(quadrants.spec, {"kind": "onnx"}, (entry,)).to_json()

        with pytest.raises(BundleError, match=rf"model\.x: no file of the kind {kind} is for (openvino|tensorrt)"):
            read_manifest(json.dumps(manifest).encode())

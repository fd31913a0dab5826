"""`config.pbtxt`, read by the protobuf definitions of Triton's client."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quillrt.compile.triton_config import Serving, TritonConfig, Warmup, check_name
from quillrt.runtime.errors import ConfigError, SpecError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, TensorSpec, character_spec

MODEL = character_spec(("a", "b", "c"), Preprocessing(8, 6, mean=0.25, denoise=("levels",)))
CONFIG = TritonConfig("letters", "onnxruntime", MODEL, 16, Serving(), "model.onnx")
KIND_AUTO, KIND_GPU, KIND_CPU = 0, 1, 2  # model_config.proto
TYPE_FP32 = 11


def test_a_batched_model(read_triton_config):
    found = read_triton_config(CONFIG.text())

    assert (found.name, found.backend, found.platform) == ("letters", "onnxruntime", "onnxruntime_onnx")
    assert (found.default_model_filename, found.max_batch_size) == ("model.onnx", 16)
    (image,), (logits,) = found.input, found.output
    assert (image.name, image.data_type, list(image.dims)) == ("image", TYPE_FP32, [1, 8, 6])
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", TYPE_FP32, [3])
    assert logits.label_filename == "labels.txt"
    assert found.HasField("dynamic_batching")
    assert json.loads(found.parameters["quillrt_preprocessing"].string_value) == {
        **asdict(MODEL.preprocessing),
        "denoise": ["levels"],
    }


def test_without_batching_the_shapes_are_whole(read_triton_config):
    found = read_triton_config(replace(CONFIG, max_batch=0).text())

    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (0, False)
    assert (list(found.input[0].dims), list(found.output[0].dims)) == ([-1, 1, 8, 6], [-1, 3])


def test_one_image_a_run_needs_no_batcher(read_triton_config):
    found = read_triton_config(replace(CONFIG, max_batch=1).text())

    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (1, False)
    assert list(found.input[0].dims) == [1, 8, 6]


def test_serving(read_triton_config):
    serving = Serving(None, (4, 16), 250, instances=2, kind="gpu", gpus=(0, 3))
    found = read_triton_config(replace(CONFIG, serving=serving).text())

    (group,) = found.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (2, KIND_GPU, [0, 3])
    assert list(found.dynamic_batching.preferred_batch_size) == [4, 16]
    assert found.dynamic_batching.max_queue_delay_microseconds == 250


@pytest.mark.parametrize(
    ("backend", "kind", "expected"),
    [
        ("onnxruntime", "auto", KIND_AUTO),
        ("onnxruntime", "cpu", KIND_CPU),
        ("tensorrt", "auto", KIND_GPU),  # an engine has no other place
    ],
)
def test_kinds(read_triton_config, backend, kind, expected):
    found = read_triton_config(replace(CONFIG, backend=backend, serving=Serving(kind=kind)).text())

    assert found.instance_group[0].kind == expected


def test_an_engine_with_profiles_for_several_gpus_and_an_accelerator(read_triton_config):
    files = {"8.6": "model.sm86.plan", "8.9": "model.sm89.plan"}
    config = TritonConfig("x", "tensorrt", MODEL, 8, Serving(), "model.sm86.plan", files, profiles=2, dla_core=1)
    found = read_triton_config(config.text())

    assert (found.platform, dict(found.cc_model_filenames)) == ("tensorrt_plan", files)
    assert list(found.instance_group[0].profile) == ["0", "1"]
    (accelerator,) = found.instance_group[0].secondary_devices
    assert (accelerator.kind, accelerator.device_id) == (0, 1)  # KIND_NVDLA


@pytest.mark.parametrize(
    ("policy", "choice", "numbers", "serves"),
    [
        ("latest", "latest", 1, {1, 2, 3}),
        ("latest:2", "latest", 2, {1, 2, 3}),
        ("all", "all", None, {1, 2, 3}),
        ("1,3", "specific", [1, 3], {1, 3}),
    ],
)
def test_version_policies(read_triton_config, policy, choice, numbers, serves):
    serving = Serving(policy=policy)
    found = read_triton_config(replace(CONFIG, serving=serving).text()).version_policy

    assert found.WhichOneof("policy_choice") == choice
    if choice != "all":
        assert numbers == (found.latest.num_versions if choice == "latest" else list(found.specific.versions))
    assert {version for version in (1, 2, 3) if serving.serves(version)} == serves


@pytest.mark.parametrize(
    ("max_batch", "batch", "dims"), [(16, None, [1, 8, 6]), (0, None, [1, 1, 8, 6]), (0, 5, [5, 1, 8, 6])]
)
def test_warm_up(read_triton_config, max_batch, batch, dims):
    image, logits = replace(MODEL.input, shape=(batch, 1, 8, 6)), replace(MODEL.output, shape=(batch, 3))
    model = replace(MODEL, inputs=(image,), outputs=(logits,))
    config = replace(CONFIG, model=model, max_batch=max_batch, warmups=(Warmup("7.png", "000.bin"),))
    (found,) = read_triton_config(config.text()).model_warmup

    assert (found.name, found.batch_size, list(found.inputs)) == ("7.png", 1, ["image"])
    sample = found.inputs["image"]
    assert (sample.data_type, list(sample.dims), sample.input_data_file) == (TYPE_FP32, dims, "000.bin")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(min_size=1))
def test_any_name_survives_the_text(read_triton_config, image, logits):
    tensors = TensorSpec(image, "float32", (None, 1, 8, 6)), TensorSpec(logits, "float32", (None, 3))
    model = ModelSpec((tensors[0],), (tensors[1],), MODEL.labels, MODEL.preprocessing)
    found = read_triton_config(replace(CONFIG, model=model, warmups=(Warmup(logits, image),)).text())

    assert (found.input[0].name, found.output[0].name) == (image, logits)
    (warmup,) = found.model_warmup
    assert (warmup.name, warmup.inputs[image].input_data_file) == (logits, image)


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a/b", "..", "é", "a\n", "-x"])
def test_names_that_no_server_takes(name):
    with pytest.raises(ConfigError, match="expected a model name of letters"):
        check_name(name)


@pytest.mark.parametrize(
    ("settings_", "phrase"),
    [
        ({"max_batch": -1}, "--max-batch of 0 to 2147483647, found -1"),
        ({"max_batch": 2**31}, "--max-batch of 0 to 2147483647"),
        ({"max_queue_delay_us": -1}, "--max-queue-delay-us of 0 or more"),
        ({"instances": 0}, "--instances of 1 or more"),
        ({"kind": "tpu"}, "--kind out of auto, gpu, cpu, found 'tpu'"),
        ({"gpus": (1, 1)}, "different GPUs, found 1, 1"),
        ({"gpus": (0,), "kind": "cpu"}, "--kind gpu or auto beside --gpu"),
        ({"policy": "latest:0"}, "found 'latest:0'"),
        ({"policy": "newest"}, "found 'newest'"),
    ],
)
def test_servings_that_cannot_be(settings_, phrase):
    with pytest.raises(ConfigError, match=phrase):
        Serving(**settings_)


@pytest.mark.parametrize(
    ("max_batch", "serving", "phrase"),
    [
        (16, Serving(preferred_batches=(8, 17)), "--preferred-batch from 1 to 16, the largest batch, found 17"),
        (1, Serving(preferred_batches=(1,)), "--max-batch of 2 or more"),
        (0, Serving(max_queue_delay_us=5), "--max-batch of 2 or more"),
    ],
)
def test_batching_that_cannot_be(max_batch, serving, phrase):
    with pytest.raises(ConfigError, match=phrase):
        replace(CONFIG, max_batch=max_batch, serving=serving)


def test_a_datatype_that_is_unknown():
    model = replace(MODEL, outputs=(replace(MODEL.output, dtype="complex64"),))
    with pytest.raises(SpecError, match="expected 'logits' as float16, float32, float64 for Triton, found complex64"):
        replace(CONFIG, model=model).text()

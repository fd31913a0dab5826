"""Bundles as models of a Triton server: which file is served, up to which batch, and what it is warmed up with."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from quillrt.compile.triton import choose, deploy
from quillrt.compile.triton_config import Serving
from quillrt.runtime.backends import open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.errors import BundleError, ConfigError
from quillrt.runtime.images import read_image
from quillrt.runtime.precision import Precision
from quillrt.runtime.pretrained import find

SIZES = {"smallest": [1], "best": [4], "largest": [32]}


@pytest.fixture(scope="module")
def digits():
    return Bundle.open(find("digits", ".quill"))


@pytest.fixture
def bundle_of(quadrants, tmp_path):
    """A bundle of the model ``quadrants`` with other files than its graph."""

    def bundle_of(*entries, spec=quadrants.spec):
        write_bundle(tmp_path / "some.quill", spec, {"kind": "onnx"}, entries)
        return Bundle.open(tmp_path / "some.quill")

    return bundle_of


def engine(precision="fp16", capability="8.6", family="tensorrt", **options):
    facts = {"tensorrt": "10.13.0", "compute_capabilities": [capability], **({"options": options} if options else {})}
    path = f"model.{precision}.{family}.sm{capability.replace('.', '')}.engine"
    data = f"{precision} {capability}".encode()
    return entry_for(data, path, "engine", precision=Precision(precision), backends=(family,), built_for=facts)


@pytest.mark.parametrize(
    ("kind", "precision", "path"),
    [
        ("auto", None, "model.fp16.onnx"),
        ("gpu", None, "model.fp16.onnx"),
        ("auto", Precision.FP32, "model.fp32.onnx"),
        ("cpu", Precision.FP16, "model.fp16.onnx"),
        ("cpu", Precision.INT8, "model.int8.cpu.onnx"),
    ],
)
def test_the_graph_fits_the_kind(digits, kind, precision, path):
    (entry,) = choose(digits, "onnxruntime", precision, kind)
    assert entry.path == path


@pytest.mark.parametrize(("instructions", "precision"), [({"avx512_vnni"}, Precision.INT8), (set(), Precision.FP32)])
def test_the_default_on_cpus_is_what_run_chooses(digits, monkeypatch, instructions, precision):
    monkeypatch.setattr("quillrt.runtime.select.processor", lambda: ("a CPU", instructions))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (entry,) = choose(digits, "onnxruntime", None, "cpu")
    assert entry.precision is precision


def test_the_graph_is_served_byte_for_byte(digits, read_triton_config):
    made = deploy(digits, "digits")
    config = read_triton_config(made.shared["config.pbtxt"].decode())

    assert made.version == {"model.onnx": digits.files["model.fp16.onnx"]}
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("onnxruntime", "model.onnx", 64)
    session = onnxruntime.InferenceSession(made.version["model.onnx"], providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert [(t.name, t.shape[1:], t.type) for t in (image, logits)] == [
        (t.name, list(t.dims), "tensor(float)") for t in (config.input[0], config.output[0])
    ]
    assert made.shared["labels.txt"].decode().splitlines() == list("0123456789")


def test_labels_of_any_script_are_lines(bundle_of, quadrants_bundle, quadrants):
    labels = ('"', "é", "字", "\\n")
    graph = Bundle.open(quadrants_bundle)
    spec = replace(quadrants.spec, labels=labels)
    bundle = bundle_of(*((entry, graph.read(entry)) for entry in graph.entries), spec=spec)

    assert deploy(bundle, "q").shared["labels.txt"].decode() == '"\né\n字\n\\n\n'


def test_warm_up_inputs_are_the_preprocessed_images(quadrants_bundle, quadrants, read_triton_config, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BILINEAR)) / 127.5 - 1
    bundle = Bundle.open(quadrants_bundle)
    images = [("a.png", read_image(tmp_path / "a.png")), ("b.png", np.full((8, 8), 255, np.uint8))]
    made = deploy(bundle, "q", serving=Serving(8, preferred_batches=(4,)), images=images)
    config = read_triton_config(made.shared["config.pbtxt"].decode())

    found = np.frombuffer(made.shared["warmup/000.bin"], "<f4").reshape(1, *config.model_warmup[0].inputs["image"].dims)
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)
    assert (np.frombuffer(made.shared["warmup/001.bin"], "<f4") == 1).all()
    session = onnxruntime.InferenceSession(made.version["model.onnx"], providers=["CPUExecutionProvider"])
    (logits,) = session.run([config.output[0].name], {config.input[0].name: found})
    np.testing.assert_allclose(logits, quadrants.logits(found), rtol=1e-5)
    with open_session("onnxruntime-cpu", quadrants.onnx, quadrants.spec) as ours:
        np.testing.assert_array_equal(logits, ours.run(found))
    sent = [(w.name, w.batch_size, w.inputs["image"].input_data_file) for w in config.model_warmup]
    assert sent == [("a.png", 1, "000.bin"), ("b.png", 1, "001.bin"), ("a.png", 4, "000.bin"), ("a.png", 8, "000.bin")]


def test_a_model_of_a_fixed_batch_is_not_batched(bundle_of, quadrants, read_triton_config):
    spec = quadrants.spec
    image, logits = replace(spec.input, shape=(2, 1, 8, 8)), replace(spec.output, shape=(2, 4))
    graph = entry_for(
        quadrants.onnx, "model.fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",)
    )
    bundle = bundle_of(graph, spec=replace(spec, inputs=(image,), outputs=(logits,)))
    made = deploy(bundle, "q", serving=Serving(kind="cpu"), images=[("a", np.zeros((8, 8), np.uint8))])
    config = read_triton_config(made.shared["config.pbtxt"].decode())

    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [2, 1, 8, 8])
    (warmup,) = config.model_warmup
    assert (warmup.batch_size, list(warmup.inputs["image"].dims)) == (1, [2, 1, 8, 8])
    assert np.frombuffer(made.shared["warmup/000.bin"], "<f4").tolist() == [-1.0] * (2 * 64)
    with pytest.raises(ConfigError, match="--max-batch 0 for a model whose batch is always 2, found 8"):
        deploy(bundle, "q", serving=Serving(8, kind="cpu"))


@pytest.mark.parametrize(
    ("profiles", "asked", "reach"),
    [
        (None, None, 64),  # the builder's default
        ([SIZES], None, 32),
        ([SIZES], 8, 8),
        ([{**SIZES, "smallest": [2], "largest": [9]}, {"smallest": [1], "best": [1], "largest": [1]}], None, 9),
        ([SIZES, {"smallest": [40], "best": [40], "largest": [40]}], None, 32),  # nothing takes 33 to 39
    ],
)
def test_an_engine_takes_what_its_profiles_reach(bundle_of, read_triton_config, profiles, asked, reach):
    bundle = bundle_of(engine(**({"profiles": profiles} if profiles else {})))
    made = deploy(bundle, "q", "tensorrt", serving=Serving(asked))
    config = read_triton_config(made.shared["config.pbtxt"].decode())

    assert (config.backend, config.max_batch_size) == ("tensorrt", reach)
    assert made.version == {"model.plan": b"fp16 8.6"}
    assert len(config.instance_group[0].profile) == (len(profiles) if len(profiles or ()) > 1 else 0)


def test_engines_for_several_gpus_go_side_by_side(bundle_of, read_triton_config):
    bundle = bundle_of(engine("int8", "8.9"), engine("int8", "8.6"), engine("fp16", "8.9"))
    made = deploy(bundle, "q", "tensorrt")
    config = read_triton_config(made.shared["config.pbtxt"].decode())

    assert made.version == {"model.sm89.plan": b"int8 8.9", "model.sm86.plan": b"int8 8.6"}
    assert dict(config.cc_model_filenames) == {"8.9": "model.sm89.plan", "8.6": "model.sm86.plan"}
    assert config.default_model_filename == "model.sm89.plan"
    assert {entry.precision for entry in made.entries} == {Precision.INT8}


def test_a_version_compatible_engine_needs_the_servers_consent(bundle_of):
    needs = "--backend-config=tensorrt,version-compatible=true"
    assert deploy(bundle_of(engine(version_compatible=True)), "q", "tensorrt").needs == needs
    assert deploy(bundle_of(engine()), "q", "tensorrt").needs is None


@pytest.mark.parametrize("held", [engine(family="tensorrt-rtx"), engine(strip=True, refit=True)])
def test_engines_that_triton_cannot_run_are_none(bundle_of, held):
    with pytest.raises(
        BundleError, match=r"found none .*: quillrt build .*some.quill --backend tensorrt --precision int8 --write"
    ):
        deploy(bundle_of(held), "q", "tensorrt", Precision.INT8)


@pytest.mark.parametrize(
    ("backend", "precision", "serving", "error", "phrase"),
    [
        ("onnxruntime", "bf16", Serving(), BundleError, "a bf16 graph in .* on both GPUs and CPUs, found fp16, fp32"),
        ("onnxruntime", "int8", Serving(kind="gpu"), BundleError, "a int8 graph in .* on GPUs, found fp16, fp32"),
        ("tensorrt", None, Serving(), BundleError, "an engine of full TensorRT with its weights in .*, found none"),
        ("tensorrt", None, Serving(kind="cpu"), ConfigError, "--kind gpu or auto for --backend tensorrt, found cpu"),
        ("openvino", None, Serving(), ConfigError, "--backend out of onnxruntime, tensorrt, found 'openvino'"),
    ],
)
def test_what_digits_cannot_do(digits, backend, precision, serving, error, phrase):
    with pytest.raises(error, match=phrase):
        deploy(digits, "digits", backend, precision and Precision(precision), serving)


@pytest.mark.parametrize(
    ("engines", "asked", "error", "phrase"),
    [
        ([engine(profiles=[SIZES])], 33, ConfigError, "--max-batch of 0 to 32, which the engine was built for, found"),
        ([engine(profiles=[{**SIZES, "smallest": [2]}])], None, ConfigError, "takes 1 image, .* found shapes 2:4:32"),
        ([engine(profiles=[{"least": 1}])], None, BundleError, "expected profiles of model.fp16"),
        ([engine(), engine(capability="8.9", tf32=True)], None, BundleError, "built with the same options"),
    ],
)
def test_what_engines_cannot_do(bundle_of, engines, asked, error, phrase):
    with pytest.raises(error, match=phrase):
        deploy(bundle_of(*engines), "q", "tensorrt", serving=Serving(asked))

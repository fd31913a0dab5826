import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from quillrt.runtime import select
from quillrt.runtime.backends import CPU_BACKENDS
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.device import Device, Gpu
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.select import candidates, open_fitting, why_not
from quillrt.runtime.session import SessionOptions


@pytest.fixture
def bundle(quadrants, tmp_path):
    """A bundle as `quillrt compile` lays it out; only the FP32 graph computes, the others are empty."""

    def entry(name, precision, *backends, kind="onnx", **facts):
        data = quadrants.onnx if name == "fp32.onnx" else b"\x3a\x00" if kind == "onnx" else name.encode()
        return entry_for(data, name, kind, precision=precision, backends=backends, **facts)

    engine = {"kind": "engine", "built_for": {"tensorrt": "10.3.0", "compute_capabilities": ["8.7"]}}
    files = [
        entry("fp32.onnx", Precision.FP32, "onnxruntime-cuda", "onnxruntime-cpu", "openvino"),
        entry("fp16.onnx", Precision.FP16, "onnxruntime-cuda", "onnxruntime-cpu"),
        entry("int8.onnx", Precision.INT8, "onnxruntime-cpu"),
        entry("fp32.engine", Precision.FP32, "tensorrt", **engine),
        entry("int8.engine", Precision.INT8, "tensorrt", **engine),
        entry_for(b"{}", "report.json", "report"),
    ]
    write_bundle(tmp_path / "model.quill", quadrants.spec, {}, files)
    return Bundle.open(tmp_path / "model.quill")


def machine(monkeypatch, gpu=None, works=(), tensorrt="10.3.0", instructions=("avx2", "avx_vnni"), fails=()):
    """Make this a machine with ``gpu`` where the backends ``works`` work, but ``fails`` only say so."""

    def opened(backend, model, spec, options):
        if backend in fails:
            raise BackendUnavailable(f"{backend} lacks memory")
        return f"a session of {model.decode(errors='ignore')}"

    device = Device("some CPU", "x86_64", 2, (), (gpu,) if gpu else (), None if gpu else "no NVIDIA driver")
    monkeypatch.setattr(select, "describe_device", lambda: device)
    monkeypatch.setattr(
        select, "why_unavailable", lambda name, device: None if name in works else f"{name} is not here"
    )
    monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version=tensorrt))
    monkeypatch.setattr(select, "open_session", opened)
    monkeypatch.setattr(select, "processor", lambda: ("some CPU", instructions))
    monkeypatch.setattr(select.platform, "machine", lambda: "x86_64")


def choose(bundle, *asked, **named):
    _, entry, backend = open_fitting(bundle, *asked, **named)
    return entry, backend


def bundle_of(quadrants, *engines):
    """A bundle with an FP32 graph and INT8 or FP32 engines, each (name, precision, TensorRT, compute capability)."""
    files = [
        entry_for(
            name.encode(),
            name,
            "engine",
            precision=precision,
            backends=("tensorrt",),
            built_for={"tensorrt": version, "compute_capabilities": [capability]},
        )
        for name, precision, version, capability in engines
    ]
    files.append(entry_for(b"graph", "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",)))
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    return Bundle(Path("model.quill"), manifest, {entry.path: data for entry, data in files}, "")


ORIN = Gpu("Orin", "8.7", "12.6", 8 << 30)
H100 = Gpu("H100", "9.0", "13.0", 80 << 30)


@pytest.mark.parametrize(
    ("works", "asked", "chosen"),
    [
        (("onnxruntime-cpu", "openvino"), {}, ("int8.onnx", "onnxruntime-cpu")),
        (("onnxruntime-cpu", "openvino"), {"backend": "openvino"}, ("fp32.onnx", "openvino")),
        (("openvino",), {}, ("fp32.onnx", "openvino")),
        (("onnxruntime-cpu", "openvino"), {"precision": Precision.FP16}, ("fp16.onnx", "onnxruntime-cpu")),
        (("onnxruntime-cuda", "onnxruntime-cpu"), {}, ("fp16.onnx", "onnxruntime-cuda")),
        (("onnxruntime-cuda", "onnxruntime-cpu"), {"precision": Precision.INT8}, ("int8.onnx", "onnxruntime-cpu")),
        (("tensorrt", "onnxruntime-cuda"), {}, ("int8.engine", "tensorrt")),
        (("tensorrt",), {"backend": "tensorrt", "precision": Precision.FP32}, ("fp32.engine", "tensorrt")),
    ],
)
def test_the_likely_fastest_that_works_is_chosen(monkeypatch, bundle, works, asked, chosen):
    machine(monkeypatch, ORIN, works)

    entry, backend = choose(bundle, **asked)

    assert (entry.path, backend) == chosen


def test_a_cpu_is_not_given_fp16_that_it_computes_through_casts(monkeypatch, bundle):
    machine(monkeypatch, works=("onnxruntime-cpu",))
    without_int8 = tuple(entry for entry in bundle.entries if entry.path != "int8.onnx")

    entry, _ = choose(replace(bundle, manifest=replace(bundle.manifest, entries=without_int8)))

    assert entry.path == "fp32.onnx"


def test_an_engine_for_another_gpu_is_passed_over(monkeypatch, bundle):
    machine(monkeypatch, H100, ("tensorrt", "onnxruntime-cpu"))

    assert choose(bundle)[1] == "onnxruntime-cpu"
    with pytest.raises(
        BackendUnavailable,
        match=r"engine is for tensorrt 10\.3\.0 on SM 8\.7, this is 10\.3\.0 on SM 9\.0",
    ):
        choose(bundle, "tensorrt")


INT8_87 = ("int8-87", Precision.INT8, "10.3.0", "8.7")
INT8_89 = ("int8-89", Precision.INT8, "10.3.0", "8.9")
FP32_87 = ("fp32-87", Precision.FP32, "10.3.0", "8.7")
INT8_99 = ("int8-99", Precision.INT8, "9.9.0", "8.7")


@pytest.mark.parametrize(
    ("engines", "chosen"),
    [
        ((INT8_87, INT8_89), "int8-87"),
        ((INT8_89, INT8_87), "int8-87"),
        ((INT8_89, FP32_87), "fp32-87"),
        ((FP32_87, INT8_87), "int8-87"),
        ((INT8_99, FP32_87), "fp32-87"),
        ((INT8_99, INT8_89), "fp32.onnx"),
    ],
)
def test_of_several_engines_the_fastest_that_fits_gpu_and_version_is_chosen(monkeypatch, quadrants, engines, chosen):
    machine(monkeypatch, ORIN, ("tensorrt", "onnxruntime-cpu"))

    assert choose(bundle_of(quadrants, *engines))[0].path == chosen


def test_where_no_engine_fits_each_says_why_once(monkeypatch, quadrants):
    machine(monkeypatch, ORIN, ("tensorrt",))

    with pytest.raises(BackendUnavailable) as error:
        choose(bundle_of(quadrants, INT8_99, INT8_89, INT8_89), "tensorrt")

    message = str(error.value)
    assert "int8-99 is for tensorrt 9.9.0 on SM 8.7, this is 10.3.0 on SM 8.7 (Orin); run quillrt build" in message
    assert message.count("int8-89 is for tensorrt 10.3.0 on SM 8.9, this is 10.3.0 on SM 8.7 (Orin)") == 1


def test_what_fails_when_opened_is_passed_over_unless_it_was_asked_for(monkeypatch, bundle):
    machine(monkeypatch, ORIN, ("onnxruntime-cuda", "onnxruntime-cpu"), fails=("onnxruntime-cuda",))

    assert choose(bundle)[1] == "onnxruntime-cpu"
    with pytest.raises(BackendUnavailable, match=r"^onnxruntime-cuda lacks memory$"):
        choose(bundle, "onnxruntime-cuda")

    machine(monkeypatch, ORIN, ("onnxruntime-cuda",), fails=("onnxruntime-cuda",))
    with pytest.raises(BackendUnavailable) as error:
        choose(bundle)
    assert str(error.value).count("onnxruntime-cuda lacks memory") == 1


@pytest.mark.parametrize(
    ("architecture", "instructions", "first"),
    [
        ("x86_64", ("avx2", "avx512bw"), "fp32.onnx"),
        ("x86_64", (), "fp32.onnx"),
        ("x86_64", ("avx2", "avx512bw", "avx512_vnni"), "int8.onnx"),
        ("x86_64", ("avx2", "avx_vnni"), "int8.onnx"),
        ("x86_64", ("amx_int8",), "int8.onnx"),
        ("aarch64", ("asimd",), "int8.onnx"),
    ],
)
def test_int8_is_first_where_the_processor_multiplies_it(monkeypatch, bundle, architecture, instructions, first):
    machine(monkeypatch, instructions=instructions)
    monkeypatch.setattr(select.platform, "machine", lambda: architecture)

    assert candidates(bundle, "onnxruntime-cpu")[0].path == first
    assert candidates(bundle, "tensorrt")[0].path == "int8.engine"


def test_where_nothing_runs_each_reason_is_named(monkeypatch, bundle):
    machine(monkeypatch)

    with pytest.raises(BackendUnavailable) as error:
        choose(bundle)

    message = str(error.value)
    assert "expected something in model.quill that runs on some CPU (x86_64), 2 cores, no NVIDIA driver; " in message
    assert "it holds onnxruntime-cpu fp16, onnxruntime-cpu fp32, onnxruntime-cpu int8, onnxruntime-cuda fp16" in message
    for name in ("tensorrt", "onnxruntime-cuda", "onnxruntime-cpu", "openvino"):
        assert f"{name} is not here" in message
    assert "tensorrt-rtx is not here" not in message  # the bundle has nothing for it


def test_without_any_engine_library_the_extras_to_install_are_named(monkeypatch, bundle):
    for package in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(BackendUnavailable) as error:
        choose(bundle)

    assert "pip install 'quillrt[ort]'" in str(error.value)
    assert "pip install 'quillrt[openvino]'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "asked",
    [
        {"backend": "tensorrt-rtx"},
        {"backend": "openvino", "precision": Precision.INT8},
        {"precision": Precision.BF16},
    ],
)
def test_what_the_bundle_does_not_hold_is_said(bundle, asked):
    with pytest.raises(BackendUnavailable, match=r"it holds .*, but: none is of the backend and precision asked for"):
        choose(bundle, **asked)


def test_an_unknown_backend_is_no_missing_file(bundle):
    with pytest.raises(ConfigError, match=r"expected a backend out of .* found 'abacus'"):
        choose(bundle, "abacus")


def test_the_driver_is_not_asked_for_a_cpu_backend(monkeypatch, bundle):
    def woken():
        raise AssertionError("asked for the GPU")

    monkeypatch.setattr(select, "describe_device", woken)
    monkeypatch.setattr(select, "why_unavailable", lambda name, device: None)

    for backend in CPU_BACKENDS:
        for entry in candidates(bundle, backend):
            assert why_not(entry, backend) is None


def test_the_session_of_a_bundle_answers(bundle, quadrants):
    pytest.importorskip("onnxruntime")
    batch = np.ones((2, 1, 8, 8), np.float32)

    with open_fitting(bundle, "onnxruntime-cpu", Precision.FP32)[0] as session:
        np.testing.assert_allclose(session.run(batch), quadrants.logits(batch), atol=1e-6)


@pytest.mark.parametrize(("capability", "works"), [("8.6", False), ("8.9", True), ("12.0", True)])
def test_fp8_by_onnxruntime_wants_a_gpu_that_has_it(monkeypatch, capability, works):
    gpu = Gpu("some GPU", capability, "13.0", 2**33)
    machine(monkeypatch, gpu, ("onnxruntime-tensorrt",))
    fp8, int8 = (
        entry_for(b"graph", "graph.onnx", "onnx", precision=precision, backends=("onnxruntime-tensorrt",))[0]
        for precision in (Precision.FP8, Precision.INT8)
    )

    assert why_not(int8, "onnxruntime-tensorrt") is None
    reason = why_not(fp8, "onnxruntime-tensorrt")
    assert (reason is None) == works
    assert works or "fp8 needs compute capability 8.9, this some GPU has 8.6" in reason


def test_provider_options_belong_to_a_backend_that_is_named(monkeypatch, bundle):
    machine(monkeypatch, ORIN, ("onnxruntime-cuda", "onnxruntime-cpu"))
    options = SessionOptions(provider_options={"enable_cuda_graph": "1"})

    with pytest.raises(ConfigError, match=r"found none named; add --backend onnxruntime-cuda or onnxruntime-tensorrt"):
        choose(bundle, options=options)
    with pytest.raises(ConfigError, match=r"no provider options for backend onnxruntime-cpu"):
        choose(bundle, "onnxruntime-cpu", options=options)
    assert choose(bundle, "onnxruntime-cuda", options=options)[1] == "onnxruntime-cuda"


@pytest.mark.parametrize("backend", [None, "onnxruntime-cpu", "openvino"])
def test_cuda_graphs_want_a_backend_that_makes_them(bundle, backend):
    with pytest.raises(ConfigError, match=r"expected one of tensorrt, .* for CUDA graphs, found .*--cuda-graph out"):
        open_fitting(bundle, backend, options=SessionOptions(cuda_graph=True))


@pytest.mark.parametrize(("device", "chosen"), [(0, "int8-87"), (1, "int8-89")])
def test_an_engine_has_to_fit_the_gpu_that_is_asked_for(monkeypatch, quadrants, device, chosen):
    machine(monkeypatch, ORIN, ("tensorrt",))
    both = Device("some CPU", "x86_64", 2, (), (ORIN, replace(ORIN, compute_capability="8.9")), None)
    monkeypatch.setattr(select, "describe_device", lambda: both)
    asked = []
    monkeypatch.setattr(select, "why_unavailable", lambda name, device: asked.append(device))

    entry, _ = choose(bundle_of(quadrants, INT8_87, INT8_89), "tensorrt", options=SessionOptions(device=device))

    assert entry.path == chosen
    assert set(asked) == {device}


def test_tf32_wants_a_gpu_that_has_it_and_fp32_does_not(monkeypatch, bundle):
    machine(monkeypatch, Gpu("RTX 2080", "7.5", "13.0", 2**33), ("onnxruntime-cuda",))

    with pytest.raises(BackendUnavailable, match=r"tf32 needs compute capability 8\.0, this RTX 2080 has 7\.5"):
        choose(bundle, "onnxruntime-cuda", Precision.TF32)
    assert choose(bundle, "onnxruntime-cuda", Precision.FP32)[0].path == "fp32.onnx"


def test_tf32_is_the_fp32_graph_with_an_option_of_the_session(monkeypatch, quadrants):
    entry = entry_for(b"fp32", "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cuda", "openvino"))
    bundle = Bundle(Path("m.quill"), Manifest(quadrants.spec, {}, (entry[0],)), {"fp32.onnx": b"fp32"}, "")
    opened = []
    monkeypatch.setattr(select, "why_unavailable", lambda name, device: None)
    monkeypatch.setattr(select, "open_session", lambda *given: opened.append((given[0], given[3].tf32)))
    open_fitting(bundle, "onnxruntime-cuda", Precision.TF32)
    open_fitting(bundle, "onnxruntime-cuda", Precision.FP32)
    assert opened == [("onnxruntime-cuda", True), ("onnxruntime-cuda", False)]
    with pytest.raises(BackendUnavailable, match="none is of the backend and precision asked for"):
        open_fitting(bundle, "openvino", Precision.TF32)

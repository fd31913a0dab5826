"""Engines built on first use and kept; the builder itself is a stand-in, real ones are in test_trt_build."""

from dataclasses import replace
from pathlib import Path

import pytest

from quillrt.runtime import native, select, trt_build
from quillrt.runtime.build_options import BuildOptions
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.device import Device, Gpu
from quillrt.runtime.errors import BackendUnavailable, BuildError, BundleError, ConfigError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.native import built_engine, engine_file, graphs_to_build, with_weights
from quillrt.runtime.precision import Precision
from quillrt.runtime.select import open_fitting
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.tensorrt_api import Log, TensorRT
from quillrt.runtime.trt_layers import LayerInfo

ORIN = Gpu("Orin", "8.7", "12.6", 8 << 30)
LAYER = LayerInfo("conv", "correlation", "int8", ("conv1",))


@pytest.fixture
def machine(monkeypatch):
    """An Orin with TensorRT 10.3, whose builder notes what it built; change ``machine.gpu`` or ``machine.refuses``."""

    class Machine:
        gpu, refuses, version = ORIN, (), "10.3.0"

        def build(self, onnx, family, options, timings, phases, device):
            self.built.append((onnx, options, timings, device))
            if onnx in self.refuses:
                raise BuildError(f"{family} refused {onnx.decode()}")
            phases("Building Engine", 1, 1)
            fits = (self.gpu.compute_capability,)
            engine = b"engine of " + onnx
            return trt_build.BuiltEngine(engine, family, self.version, fits, 2.5, (LAYER,), options, self.gpu.name)

    machine = Machine()
    machine.built = []

    def load(family):
        return TensorRT(family, object(), machine.version, Log(), None)

    for module in (native, select):
        monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(native, "find_gpu", lambda device: machine.gpu)
    monkeypatch.setattr(native, "build_engine", machine.build)
    for module in (native, select):
        monkeypatch.setattr(module, "describe_device", lambda: Device("cpu", "aarch64", 6, (), (machine.gpu,), None))
    monkeypatch.setattr(select, "why_unavailable", lambda name, device: None if name == "tensorrt" else f"no {name}")
    monkeypatch.setattr(select, "open_session", lambda name, model, spec, options: model)
    return machine


def graph(precision, name=None):
    name = name or precision.value
    return entry_for(name.encode(), f"model.{name}.onnx", "onnx", precision=precision, typed_for=("tensorrt",))


def bundle_of(quadrants, *files):
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    return Bundle(Path("model.quill"), manifest, {entry.path: data for entry, data in files}, "")


def test_first_use_builds_the_likely_fastest_and_the_next_takes_it(machine, quadrants, tmp_path):
    bundle = bundle_of(quadrants, graph(Precision.FP32), graph(Precision.INT8), graph(Precision.FP8))
    cache, said = Cache(tmp_path / "cache"), []
    for _ in range(2):
        session, entry, backend = open_fitting(bundle, cache=cache, say=said.append)
        assert (session, entry.path, backend) == (b"engine of int8", "model.int8.onnx", "tensorrt")  # no FP8 before 8.9
    assert [onnx for onnx, *_ in machine.built] == [b"int8"]
    assert [line for line in said if " in 2.5 s" in line] == [
        "built in 2.5 s",
        "taken from the cache, built once in 2.5 s",
    ]


def test_an_engine_in_the_bundle_that_fits_comes_first(machine, quadrants):
    built, _ = built_engine(NO_CACHE, *graph(Precision.INT8), "tensorrt")
    machine.built.clear()
    file = engine_file(graph(Precision.INT8)[0], built)
    bundle = bundle_of(quadrants, graph(Precision.INT8), file)
    assert open_fitting(bundle)[1].path == "model.int8.tensorrt.sm87.engine"
    assert not machine.built
    machine.gpu = Gpu("H100", "9.0", "13.0", 80 << 30)
    assert open_fitting(bundle)[1].path == "model.int8.onnx"
    assert len(machine.built) == 1


def test_a_precision_that_does_not_build_gives_way_to_the_next(machine, quadrants):
    machine.refuses = (b"int8",)
    bundle = bundle_of(quadrants, graph(Precision.FP32), graph(Precision.INT8))
    assert open_fitting(bundle, "tensorrt")[0] == b"engine of fp32"
    machine.refuses = (b"int8", b"fp32")
    with pytest.raises(BackendUnavailable, match="tensorrt refused int8; tensorrt refused fp32"):
        open_fitting(bundle, "tensorrt")


@pytest.mark.parametrize("change", ["gpu", "driver", "version", "options", "graph"])
def test_what_an_engine_depends_on_makes_another(machine, tmp_path, change):
    cache = Cache(tmp_path / "cache")
    entry, onnx = graph(Precision.INT8)
    assert built_engine(cache, entry, onnx, "tensorrt")[1]
    assert not built_engine(cache, entry, onnx, "tensorrt")[1]
    options = BuildOptions()
    if change == "gpu":
        machine.gpu = replace(ORIN, compute_capability="9.0")
    elif change == "driver":
        machine.gpu = replace(ORIN, driver="13.0")
    elif change == "version":
        machine.version = "10.4.0"
    elif change == "options":
        options = BuildOptions(tf32=True)
    else:
        entry, onnx = graph(Precision.INT8, "retrained")
    assert built_engine(cache, entry, onnx, "tensorrt", options)[1]


def test_an_engine_whose_products_round_is_no_fp32_engine(machine, quadrants):
    entry, onnx = graph(Precision.FP32)
    rounded, _ = engine_file(entry, built_engine(NO_CACHE, entry, onnx, "tensorrt", BuildOptions(tf32=True))[0])
    exact, _ = engine_file(entry, built_engine(NO_CACHE, entry, onnx, "tensorrt")[0])
    assert (rounded.precision, rounded.path) == (Precision.TF32, "model.tf32.tensorrt.sm87.engine")
    assert (exact.precision, exact.path) == (Precision.FP32, "model.fp32.tensorrt.sm87.engine")
    half, onnx = graph(Precision.FP16)  # whose products have nothing to round
    engine, _ = engine_file(half, built_engine(NO_CACHE, half, onnx, "tensorrt", BuildOptions(tf32=True))[0])
    assert engine.precision is Precision.FP16


def test_graphs_to_build_are_those_asked_for_or_the_one_run_would_choose(machine, quadrants):
    bundle = bundle_of(quadrants, graph(Precision.FP32), graph(Precision.INT8), graph(Precision.FP8))

    def paths(*precisions):
        return [entry.path for entry in graphs_to_build(bundle, "tensorrt", precisions)]

    assert paths() == ["model.int8.onnx"]
    assert paths(Precision.FP32, Precision.INT8) == ["model.fp32.onnx", "model.int8.onnx"]
    with pytest.raises(BackendUnavailable, match=r"found fp8, int8, fp32: fp8 needs compute capability 8\.9"):
        paths(Precision.FP8)
    with pytest.raises(BackendUnavailable, match=r"found fp8, int8, fp32: it has no graph of bf16 precision"):
        paths(Precision.BF16)


def test_what_is_kept_comes_back_whole(machine, tmp_path):
    cache, options = Cache(tmp_path / "cache"), BuildOptions(refit=True)
    first, _ = built_engine(cache, *graph(Precision.INT8), "tensorrt", options)
    again, _ = built_engine(cache, *graph(Precision.INT8), "tensorrt", options)
    assert again == first


def test_builds_share_their_timings_where_a_cache_keeps_them(machine, tmp_path):
    for cache, given in ((Cache(tmp_path), None), (NO_CACHE, None), (NO_CACHE, Path("mine"))):
        built_engine(cache, *graph(Precision.INT8), "tensorrt", timing_cache=given)
    shared, *others = (timings for _, _, timings, _ in machine.built)
    assert shared.parent == tmp_path / "timing"
    assert others == [None, Path("mine")]


def test_another_gpu_gets_an_engine_of_its_own_and_one_of_the_same_kind_does_not(machine, monkeypatch, tmp_path):
    gpus = (ORIN, replace(ORIN, compute_capability="8.9"), ORIN)
    monkeypatch.setattr(native, "find_gpu", lambda device: gpus[device])
    built = [
        built_engine(Cache(tmp_path), *graph(Precision.INT8), "tensorrt", device=device)[1] for device in (0, 1, 2)
    ]
    assert built == [True, True, False]
    assert [device for *_, device in machine.built] == [0, 1]


def test_run_builds_for_the_gpu_of_the_session(machine, monkeypatch, quadrants):
    bundle = bundle_of(quadrants, graph(Precision.INT8))
    both = Device("cpu", "aarch64", 6, (), (replace(ORIN, compute_capability="7.0"), ORIN), None)
    for module in (native, select):
        monkeypatch.setattr(module, "describe_device", lambda: both)
    with pytest.raises(BackendUnavailable, match=r"int8 needs compute capability 7\.2"):
        open_fitting(bundle, "tensorrt")
    open_fitting(bundle, "tensorrt", options=SessionOptions(device=1))
    assert [device for *_, device in machine.built] == [1]
    assert graphs_to_build(bundle, "tensorrt", [Precision.INT8], 1)
    with pytest.raises(BackendUnavailable, match=r"int8 needs compute capability 7\.2"):
        graphs_to_build(bundle, "tensorrt", [Precision.INT8], 0)


def test_tf32_is_built_of_the_fp32_graph(machine, quadrants):
    bundle = bundle_of(quadrants, graph(Precision.FP32), graph(Precision.INT8))
    open_fitting(bundle, "tensorrt", Precision.TF32)
    ((onnx, options, *_),) = machine.built
    assert (onnx, options) == (b"fp32", BuildOptions(tf32=True))
    with pytest.raises(ConfigError, match=r"found tf32, .*; give --precision fp32 --tf32$"):
        graphs_to_build(bundle, "tensorrt", [Precision.TF32])


def test_an_engine_that_falls_back_is_run_but_not_in_silence(machine, quadrants):
    said = []
    open_fitting(bundle_of(quadrants, graph(Precision.INT8)), "tensorrt", say=said.append)
    assert len(said) == 2
    open_fitting(bundle_of(quadrants, graph(Precision.FP16)), "tensorrt", say=said.append)
    assert said[-1] == (
        "expected tensorrt to build 90% of the products that model.fp16.onnx has in fp16 so, found int8 × 1"
    )


class TestStripped:
    @pytest.fixture
    def stripped(self, machine):
        built, _ = built_engine(NO_CACHE, *graph(Precision.INT8), "tensorrt", BuildOptions(strip=True))
        return engine_file(graph(Precision.INT8)[0], built)

    def test_weights_come_from_the_bundles_graph(self, monkeypatch, quadrants, stripped):
        monkeypatch.setattr(native, "refit", lambda engine, onnx, *how, **asked: engine + b" with " + onnx)
        bundle = bundle_of(quadrants, graph(Precision.FP32), graph(Precision.INT8), stripped)
        assert open_fitting(bundle)[0] == b"engine of int8 with int8"

    @pytest.mark.parametrize("portable", [False, True])
    def test_they_are_put_back_on_the_sessions_gpu_and_with_its_leave_for_host_code(
        self, monkeypatch, machine, quadrants, portable
    ):
        asked = []
        monkeypatch.setattr(native, "refit", lambda *given, **named: asked.append((given[3], named)) or b"whole")
        options = BuildOptions(strip=True, version_compatible=portable)
        built, _ = built_engine(NO_CACHE, *graph(Precision.INT8), "tensorrt", options)
        bundle = bundle_of(quadrants, graph(Precision.INT8), engine_file(graph(Precision.INT8)[0], built))
        both = Device("cpu", "aarch64", 6, (), (machine.gpu, machine.gpu), None)
        monkeypatch.setattr(select, "describe_device", lambda: both)
        assert open_fitting(bundle, "tensorrt", options=SessionOptions(device=1))[0] == b"whole"
        assert asked == [(1, {"host_code": portable})]

    def test_without_the_graph_it_is_refused(self, quadrants, stripped):
        bundle = bundle_of(quadrants, graph(Precision.FP32), stripped)
        with pytest.raises(BundleError, match=r"expected the graph of model\.int8\.tensorrt\.sm87\.engine"):
            with_weights(bundle, stripped[0], "tensorrt", SessionOptions())


def test_an_engine_with_host_code_runs_when_its_backend_is_named(machine, quadrants):
    built, _ = built_engine(NO_CACHE, *graph(Precision.INT8), "tensorrt", BuildOptions(version_compatible=True))
    bundle = bundle_of(quadrants, engine_file(graph(Precision.INT8)[0], built))
    with pytest.raises(BackendUnavailable, match="runs code out of the bundle"):
        open_fitting(bundle)
    assert open_fitting(bundle, "tensorrt")[0] == b"engine of int8"

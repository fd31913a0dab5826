"""The adapter; tensorrt_contract/ holds it to the API of each release."""

import sys
import types
from contextlib import nullcontext

import pytest

from quillrt.runtime import tensorrt_api
from quillrt.runtime.build_options import BuildOptions
from quillrt.runtime.device import Gpu
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.tensorrt_api import FAMILIES, Log, TensorRT, load


@pytest.fixture
def fresh(monkeypatch):
    """Forget modules loaded before, and those that the test pretends to be there."""
    load.cache_clear()
    yield monkeypatch
    load.cache_clear()


@pytest.mark.tensorrt
def test_load_gives_the_module_and_its_version():
    trt = pytest.importorskip("tensorrt_rtx")
    tensorrt = load("tensorrt-rtx")
    assert tensorrt.module is trt
    assert str(tensorrt) == f"tensorrt-rtx {trt.__version__}"
    assert tensorrt.portable
    network = tensorrt.create("Builder").create_network(tensorrt.network_flags)
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


@pytest.mark.parametrize(("number", "flags"), [(1, 0b10), (0, 0b1)], ids=["TensorRT 10", "TensorRT 11"])
def test_network_flags_follow_the_versions_numbering(number, flags):
    module = types.SimpleNamespace(NetworkDefinitionCreationFlag=types.SimpleNamespace(STRONGLY_TYPED=number))
    assert TensorRT("tensorrt", module, "", Log(), None).network_flags == flags


def test_unknown_family_lists_the_known():
    with pytest.raises(ConfigError, match="out of tensorrt, tensorrt-rtx, found 'tensorrt-lean'"):
        load("tensorrt-lean")


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_package_names_the_extra(fresh, family):
    # A None in sys.modules makes the import fail as if the package were not installed, but with the full name.
    fresh.setitem(sys.modules, family.replace("-", "_"), None)
    with pytest.raises(BackendUnavailable) as caught:
        load(family)
    assert str(caught.value) == f"{family} needs the package {family}: pip install 'quillrt[{family}]'"


def test_missing_library_is_named(fresh, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open\\nshared object file')")
    fresh.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailable) as caught:
        load("tensorrt")
    assert str(caught.value) == "tensorrt cannot be loaded: libnvinfer.so.10: cannot open shared object file"


def test_old_version_is_refused(fresh):
    fresh.setitem(sys.modules, "tensorrt", types.SimpleNamespace(__version__="8.5.2.2"))
    with pytest.raises(BackendUnavailable, match=r"expected tensorrt 10\.3 or later, found 8\.5\.2\.2"):
        load("tensorrt")


@pytest.mark.parametrize("level", ["ampere-plus", "same-compute-capability"])
def test_a_jetson_builds_no_hardware_compatible_engine(monkeypatch, level):
    levels = types.SimpleNamespace(AMPERE_PLUS=1, SAME_COMPUTE_CAPABILITY=2)
    tensorrt = TensorRT("tensorrt", types.SimpleNamespace(HardwareCompatibilityLevel=levels), "10.16.2", Log(), None)
    options = BuildOptions(hardware_compatibility=level)
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda device: Gpu("A10", "8.6", "13.0", 24 << 30))
    tensorrt.check(options)
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda device: Gpu("Orin", "8.7", "13.2", 8 << 30))
    with pytest.raises(ConfigError, match=r"--hardware-compatibility: TensorRT supports that on no Jetson, .* \(Orin"):
        tensorrt.check(options)


@pytest.mark.parametrize(("capability", "refused"), [("7.5", True), ("8.0", False)])
def test_products_round_to_tf32_where_the_gpu_can(monkeypatch, capability, refused):
    tensorrt = TensorRT("tensorrt", types.SimpleNamespace(), "10.16.2", Log(), None)
    gpus = [Gpu("A10", "8.6", "13.0", 24 << 30), Gpu("some GPU", capability, "13.0", 8 << 30)]
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda device: gpus[device])
    tensorrt.check(BuildOptions(tf32=True))
    told = r"with --tf32: tf32 needs compute capability 8\.0, this some GPU has 7\.5; leave it out"
    with pytest.raises(ConfigError, match=told) if refused else nullcontext():
        tensorrt.check(BuildOptions(tf32=True), 1)


@pytest.mark.parametrize("version", [None, "8.5.2"])
def test_a_jetson_is_not_told_to_install_another_tensorrt(fresh, version):
    module = None if version is None else types.SimpleNamespace(__version__=version)
    fresh.setitem(sys.modules, "tensorrt", module)
    fresh.setattr(tensorrt_api, "read_jetson", lambda: "a Jetson")
    with pytest.raises(BackendUnavailable, match=r": JetPack 6\.1 and later bring it, .*: see docs/jetson\.md$"):
        load("tensorrt")


def test_a_builder_that_does_not_start_says_why():
    log = Log()

    class Module:
        @staticmethod
        def Builder(logger):  # noqa: N802
            log.take("ERROR", "CUDA initialization failure with error: 100")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    tensorrt = TensorRT("tensorrt", Module, "10.3.0", log, None)
    with pytest.raises(BackendUnavailable, match=r"tensorrt 10\.3\.0 cannot start its builder: CUDA .* error: 100"):
        tensorrt.create("Builder")


class TestLog:
    def test_keeps_the_last_error_in_one_line_without_source_lines(self):
        log = Log()
        log.take("ERROR", "an older one")
        log.take("ERROR", "Error Code 9:\n  no tactics. In compileGraph at /_src/optimizer/codeGenerator.cpp:2012)")
        log.take("WARNING", "a warning")
        assert log.last_error == "Error Code 9: no tactics.)"

    def test_drops_what_only_says_that_there_is_no_driver(self):
        log = Log()
        log.take("ERROR", "the reason")
        log.take("INTERNAL_ERROR", "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)")
        assert log.last_error == "the reason"

    def test_keeps_a_missing_driver_where_it_is_the_reason(self):
        log = Log()
        log.take("ERROR", "Cuda Runtime (cudaError 35: CUDA driver version is insufficient)")
        assert "cudaError 35" in log.last_error

    def test_keeps_only_so_many(self):
        log = Log()
        for number in range(100):
            log.take("ERROR", str(number))
        assert len(log.errors) == tensorrt_api._ERRORS_KEPT
        assert log.last_error == "99"

    def test_clear_forgets(self):
        log = Log()
        log.take("VERBOSE", "Layers:\nName: x")
        log.take("ERROR", "no")
        log.clear()
        assert (log.layers, log.last_error) == ("", "TensorRT gave no reason")

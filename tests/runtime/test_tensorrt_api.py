"""The adapter, and the names of TensorRT's API that quillrt uses."""

import sys
import types

import pytest

from quillrt.runtime import tensorrt_api
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.tensorrt_api import FAMILIES, Log, TensorRT, load

# All that runtime/tensorrt_api.py, trt_build.py and trt.py touch. Every one is in TensorRT 10.3, 10.13, 10.16, 11.4 and
# TensorRT-RTX 1.7, except the class ComputeCapability and what is named after it, which are TensorRT-RTX's own.
USED = {
    "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
    "BuilderFlag": "TF32",
    "ComputeCapability": "SM75 SM80 SM86 SM89 SM120",
    "DataType": "FLOAT FP8",
    "IBuilderConfig": "profiling_verbosity clear_flag set_memory_pool_limit builder_optimization_level "
    "add_optimization_profile progress_monitor num_compute_capabilities set_compute_capability",
    "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_mode get_tensor_shape get_tensor_dtype "
    "get_tensor_profile_shape create_execution_context",
    "IExecutionContext": "set_input_shape set_tensor_address execute_async_v3",
    "ILayer": "num_outputs get_output",
    "ILogger": "log",
    "INetworkDefinition": "num_inputs get_input num_outputs num_layers get_layer",
    "IOptimizationProfile": "set_shape",
    "IProgressMonitor": "phase_start step_complete phase_finish",
    "ITensor": "name shape dtype",
    "MemoryPoolType": "WORKSPACE",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "OnnxParser": "parse num_errors get_error",
    "ParserError": "desc node_name node_operator",
    "ProfilingVerbosity": "DETAILED",
    "Runtime": "deserialize_cuda_engine",
    "TensorIOMode": "INPUT OUTPUT",
}


@pytest.fixture
def fresh(monkeypatch):
    """Forget modules loaded before, and those that the test pretends to be there."""
    load.cache_clear()
    yield monkeypatch
    load.cache_clear()


@pytest.mark.tensorrt
@pytest.mark.parametrize("cls", USED)
def test_every_name_used_exists(cls):
    trt = pytest.importorskip("tensorrt_rtx")
    missing = [name for name in USED[cls].split() if not hasattr(getattr(trt, cls), name)]
    assert not missing


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

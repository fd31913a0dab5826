"""Which engines fit a GPU and a version of TensorRT, by NVIDIA's support matrix."""

import pytest

from quillrt.runtime.device import Gpu
from quillrt.runtime.engine_fit import cannot_build, holds_host_code, misfit
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision

ORIN = Gpu("Orin", "8.7", "12.6", 8 << 30)
H100 = Gpu("H100", "9.0", "13.0", 80 << 30)


def engine(tensorrt="10.3.0", fits=("8.7",), **options):
    facts = {"tensorrt": tensorrt, "compute_capabilities": list(fits), "options": options}
    return Entry("int8.engine", "engine", "0" * 64, 9, Precision.INT8, ("tensorrt",), built_for=facts)


def test_the_message_names_both_sides_and_the_remedy():
    assert misfit(engine(), "11.4.0", H100) == (
        "int8.engine is for tensorrt 10.3.0 on SM 8.7, this is 11.4.0 on SM 9.0 (H100); run quillrt build"
    )


@pytest.mark.parametrize(
    ("built_by", "here", "compatible", "fits"),
    [
        ("10.3.0", "10.3.0", False, True),
        ("10.3.0", "10.4.0", False, False),
        ("10.3.0", "10.16.1", True, True),
        ("10.16.1", "10.3.0", True, False),
        ("10.3.0", "11.4.0", True, True),  # the one step over a major version that is supported
        ("11.0.0", "10.16.1", True, False),
        ("11.0.0", "12.0.0", True, False),
    ],
)
def test_versions(built_by, here, compatible, fits):
    options = {"version_compatible": True} if compatible else {}
    entry = engine(built_by, **options)
    assert (misfit(entry, here, ORIN) is None) is fits
    assert holds_host_code(entry) is compatible


@pytest.mark.parametrize(
    ("fits", "gpu", "runs"),
    [
        (("8.7",), ORIN, True),
        (("8.7",), H100, False),
        (("8.0+",), H100, True),
        (("9.0+",), ORIN, False),
        (("8.0+",), ORIN, False),  # no hardware compatibility on JetPack
        (("8.0+",), Gpu("Thor", "11.0", "13.0", 128 << 30), False),
    ],
)
def test_compute_capabilities(fits, gpu, runs):
    assert (misfit(engine(fits=fits), "10.3.0", gpu) is None) is runs


@pytest.mark.parametrize(
    ("fits", "options"),
    [
        ("8.0+", {"hardware_compatibility": "ampere-plus"}),
        ("8.0+", {}),
        ("8.7", {"hardware_compatibility": "same-compute-capability"}),
    ],
)
def test_no_jetson_runs_hardware_compatible_engines(fits, options):
    assert misfit(engine(fits=(fits,), **options), "10.3.0", ORIN) == (
        "int8.engine is hardware compatible: TensorRT supports that on no Jetson, and this is one (Orin, 8.7); "
        "run quillrt build"
    )


def test_cards_run_hardware_compatible_engines():
    assert misfit(engine(fits=("8.0+",), hardware_compatibility="ampere-plus"), "10.3.0", H100) is None


def test_precisions_that_a_gpu_has_no_kernels_for():
    assert cannot_build(Precision.FP8, ORIN) == "fp8 needs compute capability 8.9, this Orin has 8.7"
    assert cannot_build(Precision.FP8, H100) is None
    assert cannot_build(Precision.INT8, ORIN) is None

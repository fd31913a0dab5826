"""Doubles beside the objects they stand for: TensorRT-RTX, whose builder needs no GPU, refuses what they refuse."""

import pytest
from tensorrt_contract.double import double_of

from quillrt.runtime.tensorrt_api import load

# Each is said of a builder, its network, its configuration and a profile, with TensorRT-RTX's names.
CALLS = [
    "builder.create_network()",
    "builder.create_network(flags=1)",
    "builder.create_network(flag=1)",
    "builder.create_network(1, 2)",
    "builder.create_network('1')",
    "builder.create_network(1.0)",
    "builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)",
    "builder.create_optimization_profiles()",
    "builder.build_serialized_network(network)",
    "builder.build_serialized_network(config, network)",
    "setattr(builder, 'max_threads', 2)",
    "setattr(builder, 'max_threads', 'two')",
    "setattr(builder, 'num_DLA_cores', 1)",
    "builder.gpu_allocator",
    "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 20)",
    "config.set_memory_pool_limit(pool=trt.MemoryPoolType.WORKSPACE, pool_size=1 << 20)",
    "config.set_memory_pool_limit(1 << 20, trt.MemoryPoolType.WORKSPACE)",
    "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)",
    "config.set_memory_pool_limit(0, 1 << 20)",
    "setattr(config, 'max_workspace_size', 1)",
    "setattr(config, 'builder_optimization_level', 3)",
    "setattr(config, 'builder_optimization_level', 3.0)",
    "setattr(config, 'progress_monitor', None)",
    "setattr(config, 'progress_monitor', 3)",
    "setattr(config, 'profiling_verbosity', trt.ProfilingVerbosity.DETAILED)",
    "setattr(config, 'profiling_verbosity', 2)",
    "config.clear_flag(trt.BuilderFlag.TF32)",
    "config.clear_flag(trt.BuilderFlag.INT8)",
    "config.clear_flag(trt.MemoryPoolType.WORKSPACE)",
    "config.clear_flag(None)",
    "config.int8_calibrator",
    "config.create_timing_cache(b'')",
    "config.create_timing_cache('')",
    "profile.set_shape('image', (1, 1), (2, 1), (4, 1))",
    "profile.set_shape('image', min=(1, 1), opt=[2, 1], max=trt.Dims((4, 1)))",
    "profile.set_shape('image', (1, 1), (2, 1))",
    "profile.set_shape('image', (1, 1), (2, 1), (4.5, 1))",
    "profile.set_shape(0, (1, 1), (2, 1), (4, 1))",
    "config.add_optimization_profile(profile)",
    "config.add_optimization_profile(network)",
    "network.get_input(0)",
    "network.get_input('image')",
    "network.num_inputs",
    "network.num_bindings",
    "setattr(network, 'num_inputs', 1)",
    "setattr(network, 'name', 'digits')",
]


@pytest.mark.tensorrt
@pytest.mark.parametrize("call", CALLS)
def test_agrees_with_the_real_objects(call):
    """What TensorRT-RTX's own objects refuse, and with which exception, their doubles refuse too, and nothing else."""
    real = pytest.importorskip("tensorrt_rtx")
    logger = load("tensorrt-rtx").logger  # the one logger of the process
    outcomes = []
    for trt in (real, double_of(real, {})):
        builder = trt.Builder(logger)
        network, config = builder.create_network(), builder.create_builder_config()
        profile = builder.create_optimization_profile()
        names = {"trt": trt, "builder": builder, "network": network, "config": config, "profile": profile}
        try:
            eval(call, names)
        except (AttributeError, TypeError) as error:
            outcomes.append(type(error))
        else:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]

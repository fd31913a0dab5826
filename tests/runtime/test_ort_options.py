import pytest

from quillrt.runtime.build_options import Profile
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.ort_options import OPTIONS, check_options, parse_options

CUDA, TENSORRT = "onnxruntime-cuda", "onnxruntime-tensorrt"
GRAPH = {CUDA: "enable_cuda_graph", TENSORRT: "trt_cuda_graph_enable"}


@pytest.mark.parametrize("backend", [CUDA, TENSORRT])
def test_without_options_there_is_binding_and_no_graph(backend):
    tuning = parse_options(backend, {})

    assert (tuning.io_binding, tuning.graph, tuning.cpu_nodes, dict(tuning.provider)) == (True, False, (), {})
    assert tuning.batches == Profile()


@pytest.mark.parametrize("spelled", ["1", "true", "True"])
def test_flags_reach_the_provider_as_python_writes_them(spelled):
    tuning = parse_options(CUDA, {"enable_cuda_graph": spelled, "prefer_nhwc": "0", "gpu_mem_limit": "1000"})

    assert tuning.graph
    assert dict(tuning.provider) == {"enable_cuda_graph": "True", "prefer_nhwc": "False", "gpu_mem_limit": "1000"}


def test_what_is_quillrts_own_does_not_reach_the_provider():
    tuning = parse_options(TENSORRT, {"io_binding": "0", "cpu_nodes": "Shape, Gather", "max_batch": "4"})

    assert dict(tuning.provider) == {}
    assert not tuning.io_binding
    assert tuning.cpu_nodes == ("Shape", "Gather")


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ({"max_batch": "4"}, (1, 4, 4)),
        ({"min_batch": "16"}, (16, 16, 64)),
        ({"min_batch": "2", "opt_batch": "3", "max_batch": "5"}, (2, 3, 5)),
    ],
)
def test_the_best_batch_stays_between_the_others(given, batches):
    found = parse_options(TENSORRT, given).batches

    assert (*found.smallest, *found.best, *found.largest) == batches


@pytest.mark.parametrize(
    ("backend", "options", "told"),
    [
        ("openvino", {"prefer_nhwc": "1"}, r"no provider options for backend openvino, .* found prefer_nhwc; leave"),
        (CUDA, {"graph": "1"}, r"out of io_binding, .*enable_cuda_graph.*, found 'graph'; check the name"),
        (CUDA, {"trt_max_workspace_size": "1"}, r"option of onnxruntime-cuda out of .* found 'trt_max_workspace_size'"),
        (CUDA, {"max_batch": "1"}, r"found 'max_batch'; check the name"),
        (CUDA, {"use_tf32": "1"}, r"found use_tf32: precision lives in the graph, choose it with --precision"),
        (TENSORRT, {"trt_fp16_enable": "1"}, r"found trt_fp16_enable: precision lives in the graph"),
        (TENSORRT, {"trt_dla_enable": "1"}, r"found trt_dla_enable: the provider has it only with its own precision"),
        (TENSORRT, {"trt_profile_max_shapes": "x:1"}, r"found trt_profile_max_shapes: give min_batch, opt_batch"),
        (TENSORRT, {"trt_engine_cache_path": "/"}, r"engines are kept where QUILLRT_CACHE says"),
        (CUDA, {"prefer_nhwc": "yes"}, r"prefer_nhwc to be one of 0, 1, false, true, found 'yes'"),
        (CUDA, {"gpu_mem_limit": "2GB"}, r"gpu_mem_limit to be a whole number, found '2GB'"),
        (CUDA, {"gpu_mem_limit": ""}, r"gpu_mem_limit to be a whole number, found ''"),
        (CUDA, {"cudnn_conv_algo_search": "BEST"}, r"one of EXHAUSTIVE, HEURISTIC, DEFAULT, found 'BEST'"),
        (CUDA, {"cpu_nodes": " "}, r"cpu_nodes to be operators with commas between, found ' '"),
        (TENSORRT, {"min_batch": "9", "max_batch": "8"}, r"MIN <= OPT <= MAX, found 9:8:8"),
        (TENSORRT, {"min_batch": "0"}, r"1 <= MIN"),
    ],
)
def test_what_would_do_nothing_or_harm_is_one_line(backend, options, told):
    with pytest.raises(ConfigError, match=told) as error:
        check_options(backend, options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", [CUDA, TENSORRT])
def test_a_graph_needs_buffers_that_stay(backend):
    with pytest.raises(ConfigError, match=f"expected io_binding=1 with {GRAPH[backend]}=1, found io_binding=0"):
        parse_options(backend, {GRAPH[backend]: "1", "io_binding": "0"})
    assert not parse_options(backend, {GRAPH[backend]: "0", "io_binding": "0"}).graph


def test_tensorrts_one_graph_needs_one_batch_size():
    with pytest.raises(ConfigError, match=r"expected one batch size with trt_cuda_graph_enable=1, found 1 to 64"):
        parse_options(TENSORRT, {"trt_cuda_graph_enable": "1"})
    same = {"min_batch": "8", "opt_batch": "8", "max_batch": "8"}
    assert parse_options(TENSORRT, {"trt_cuda_graph_enable": "1", **same}).graph


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime-cpu", "no backend"])
def test_no_options_suit_everybody(backend):
    check_options(backend, {})


def test_no_option_is_both_the_users_and_set_here():
    for backend, names in OPTIONS.items():
        for name in names:
            with pytest.raises(ConfigError) as error:
                check_options(backend, {name: ""})
            assert "left to you" not in str(error.value)

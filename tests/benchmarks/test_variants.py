from pathlib import Path

import pytest

from quillrt.benchmarks.contestants import NAMES, Contestant, bundle_contestants
from quillrt.benchmarks.variants import by_batch, graphed, only, takes, tuned
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.ort_options import parse_options
from quillrt.runtime.session import SessionOptions


def test_only_the_backends_that_are_named(bundle):
    contestants = bundle_contestants(bundle)
    assert only(contestants, ()) == contestants
    assert [c.name for c in only(contestants, ["openvino"])] == ["openvino fp32"]
    with pytest.raises(ConfigError, match="cuda-magic") as error:
        only(contestants, ["cuda-magic"])
    assert all(name in str(error.value) for name in NAMES)


def test_options_reach_the_session_of_their_backend_and_no_other(monkeypatch, bundle):
    opened = []
    monkeypatch.setattr(
        "quillrt.benchmarks.contestants.open_session",
        lambda name, model, spec, options: opened.append((name, options.threads, dict(options.provider_options))),
    )
    cuda = Contestant("onnxruntime-cuda", "fp32", bundle.manifest.model, b"fp32")
    cpu = Contestant("onnxruntime-cpu", "fp32", bundle.manifest.model, b"fp32")

    rows = tuned([cuda, cpu], {"prefer_nhwc": "1"}, [{"io_binding": "0"}, {"enable_cuda_graph": "1"}])
    for row in rows:
        row.open(SessionOptions(threads=3))

    assert [row.name for row in rows] == [
        "onnxruntime-cuda fp32",
        "onnxruntime-cuda fp32 io_binding=0",
        "onnxruntime-cuda fp32 enable_cuda_graph=1",
        "onnxruntime-cpu fp32",
    ]
    assert opened == [
        ("onnxruntime-cuda", 3, {"prefer_nhwc": "1"}),
        ("onnxruntime-cuda", 3, {"prefer_nhwc": "1", "io_binding": "0"}),
        ("onnxruntime-cuda", 3, {"prefer_nhwc": "1", "enable_cuda_graph": "1"}),
        ("onnxruntime-cpu", 3, {}),
    ]
    assert tuned([cpu], {}, []) == [cpu]


def test_a_variant_is_a_row_of_the_backends_that_know_it(bundle):
    cuda = Contestant("onnxruntime-cuda", "fp32", bundle.manifest.model, b"fp32")
    compiled = Contestant("torch-compile", "fp32", bundle.manifest.model, Path("c"))
    rows = tuned([compiled, cuda], {"prefer_nhwc": "1"}, [{"mode": "max-autotune"}, {"io_binding": "0"}])
    assert [(row.name, dict(row.options)) for row in rows] == [
        ("torch-compile fp32", {}),
        ("torch-compile fp32 mode=max-autotune", {"mode": "max-autotune"}),
        ("onnxruntime-cuda fp32", {"prefer_nhwc": "1"}),
        ("onnxruntime-cuda fp32 io_binding=0", {"prefer_nhwc": "1", "io_binding": "0"}),
    ]
    with pytest.raises(ConfigError, match=r"expected mode of torch-compile to be one of default, .*found 'fast'"):
        tuned([compiled, cuda], {}, [{"mode": "fast"}])
    with pytest.raises(ConfigError, match=r"a backend that takes mode, found eager; add --backend torch-compile or"):
        tuned([Contestant("eager", "fp32", bundle.manifest.model)], {"mode": "default"}, [])


def test_options_may_come_together_and_autocast_is_bfloat16_of_fp32_weights(bundle):
    spec = bundle.manifest.model
    rows = [Contestant(name, p, spec, Path("c")) for name in ("eager", "torch-compile") for p in ("fp32", "fp16")]
    together = {"autocast": "bfloat16", "memory_format": "channels_last"}
    found = tuned(rows, {}, [together, {"mode": "max-autotune", **together}])
    assert [row.name for row in found if row not in rows] == [
        "eager bf16 autocast=bfloat16,memory_format=channels_last",
        "torch-compile bf16 autocast=bfloat16,memory_format=channels_last",
        "torch-compile bf16 mode=max-autotune,autocast=bfloat16,memory_format=channels_last",
    ]
    assert takes("torch-compile", {"mode": "default"})
    assert not takes("eager", {"mode": "default", **together})


def test_cuda_graphs_are_one_more_row_of_whoever_makes_them(monkeypatch, bundle):
    spec = bundle.manifest.model
    given = [
        Contestant("eager-cuda", "fp16", spec, Path("c")),
        Contestant("torch-compile-cuda", "fp32", spec, Path("c")),
        Contestant("tensorrt", "int8", spec, b"engine"),
        Contestant("tensorrt-rtx", None, spec, reason="none in the bundle"),
        Contestant("onnxruntime-cuda", "fp32", spec, b"graph", options={"io_binding": "0"}, variant="io_binding=0"),
        Contestant("openvino", "fp32", spec, b"graph"),
    ]
    rows = graphed(given)
    assert [row.name for row in rows if row not in given] == ["eager-cuda fp16 CUDA graph", "tensorrt int8 CUDA graph"]
    opened = []
    monkeypatch.setattr("quillrt.benchmarks.contestants.open_session", lambda *given: opened.append(given[3]))
    for row in rows[3:5]:
        row.open(SessionOptions())
    assert [options.cuda_graph for options in opened] == [False, True]
    with pytest.raises(ConfigError, match="for CUDA graphs, found openvino; add one with --backend"):
        graphed(given[-1:])


def test_onnxruntimes_tensorrt_has_an_engine_and_a_cuda_graph_of_each_batch_size(monkeypatch, bundle):
    spec = bundle.manifest.model
    tensorrt = Contestant("onnxruntime-tensorrt", "fp16", spec, b"graph")
    cuda = Contestant("onnxruntime-cuda", "fp16", spec, b"graph")
    rows = by_batch(graphed(tuned([tensorrt, cuda], {}, [{"trt_cuda_graph_enable": "1"}])), (1, 1024))
    assert [(row.name, row.batch) for row in rows] == [
        ("onnxruntime-tensorrt fp16", 1),
        ("onnxruntime-tensorrt fp16", 1024),
        ("onnxruntime-tensorrt fp16 CUDA graph", 1),
        ("onnxruntime-tensorrt fp16 CUDA graph", 1024),
        ("onnxruntime-tensorrt fp16 trt_cuda_graph_enable=1", 1),
        ("onnxruntime-tensorrt fp16 trt_cuda_graph_enable=1", 1024),
        ("onnxruntime-cuda fp16", None),
        ("onnxruntime-cuda fp16 CUDA graph", None),
    ]
    opened = []
    monkeypatch.setattr("quillrt.benchmarks.contestants.open_session", lambda *given: opened.append(given[3]))
    for row in rows[:6]:
        row.open(SessionOptions())
    tunings = [
        parse_options(
            "onnxruntime-tensorrt",
            {**options.provider_options, **({"trt_cuda_graph_enable": "1"} if options.cuda_graph else {})},
        )
        for options in opened
    ]
    assert [str(tuning.batches) for tuning in tunings] == ["1:1:1", "1024:1024:1024"] * 3
    assert [tuning.graph for tuning in tunings] == [False, False, True, True, True, True]


def test_batches_that_were_asked_for_are_every_rows(bundle):
    tensorrt = Contestant("onnxruntime-tensorrt", "fp16", bundle.manifest.model, b"graph")
    rows = tuned([tensorrt], {"max_batch": "128"}, [])
    assert by_batch(rows, (1, 64)) == rows

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from quillrt.benchmarks import peer_workers, peers
from quillrt.benchmarks.contestants import Contestant
from quillrt.benchmarks.peer_workers import TrtExec, benchmark_app_median, trtexec_median
from quillrt.benchmarks.peers import PEERS, beside, with_peers
from quillrt.benchmarks.rotation import laid_out
from quillrt.benchmarks.running import Settings, measure
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, ConfigError, SpecError
from quillrt.runtime.pretrained import find
from quillrt.runtime.session import SessionOptions

QUICK = Settings(batches=(1, 3), seconds=0.05, rounds=2)


def test_a_peer_stands_beside_each_precision_of_its_backend(contestant):
    others = [
        contestant,
        replace(contestant, precision="int8"),
        replace(contestant, variant="x=1"),
        replace(contestant, backend="openvino", reason="not here"),
    ]
    found = with_peers(["onnxruntime-loop", "openvino-benchmark-app"], others)
    assert [(row.name, row.kind) for row in found] == [
        ("onnxruntime-cpu fp32", "backend"),
        ("onnxruntime-loop fp32", "peer"),
        ("onnxruntime-cpu int8", "backend"),
        ("onnxruntime-loop int8", "peer"),
        ("onnxruntime-cpu fp32 x=1", "backend"),
        ("openvino fp32", "backend"),
        ("openvino-benchmark-app fp32", "peer"),
    ]
    assert found[-1].reason == "not here"
    with pytest.raises(ConfigError, match=r"expected peers out of onnxruntime-loop, .*found abacus"):
        with_peers(["abacus"], others)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_where_the_backend_does_that_it_stands_beside(name, quadrants):
    ours = Contestant(PEERS[name].backend, "fp32", quadrants.spec, b"model")
    _, theirs = with_peers([name], [ours])
    assert theirs.on_gpu == ours.on_gpu == (name == "trtexec")


def test_a_peer_that_is_not_here_has_its_reason(monkeypatch, quadrants):
    rows = [Contestant(backend, "fp32", quadrants.spec, b"model") for backend in ("litert", "tensorrt")]
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(peers, "which", lambda name: None)
    _, litert, _, trt = with_peers(["litert-benchmark", "trtexec"], rows)
    assert "needs ai_edge_litert.tools.benchmark_litert_model" in litert.reason
    assert "needs the program trtexec" in trt.reason


def test_the_bare_loop_is_a_row_with_the_same_answers(contestant, images, tmp_path):
    rows = measure(with_peers(["onnxruntime-loop"], [contestant]), images, QUICK, tmp_path / "log")
    for ours, theirs in (rows[:2], rows[2:]):
        assert theirs.reason is None
        assert (theirs.kind, ours.kind) == ("peer", "backend")
        assert theirs.measured.agreement.max_difference == 0
        assert all(each.latencies_ns for each in theirs.measured.rounds)
    found = beside(rows)
    assert [(each.batch, each.ours) for each in found] == [(1, "onnxruntime-cpu fp32"), (3, "onnxruntime-cpu fp32")]
    ratios = [a / b for a, b in zip(*(row.measured.round_medians_ms for row in rows[:2]), strict=True)]
    assert found[0].difference == pytest.approx(np.median(ratios) - 1)


def test_the_bare_loop_is_bare_from_its_warm_up_on(contestant, images):
    """Our session refuses an image that is no number; onnxruntime's own runs it."""
    _, peer = with_peers(["onnxruntime-loop"], [contestant])
    loop = peer_workers.OnnxRuntimeLoop()
    with laid_out(np.full_like(images, np.nan), len(images)) as files:
        loop.open(peer, files, SessionOptions(threads=1), 0)
        assert loop.warm(1, 0.01)[0].queries > 0
        assert loop.round(1, 0.0, 5).queries == 5
    with contestant.open(SessionOptions()) as ours, pytest.raises(SpecError, match="NaN"):
        ours.run(np.full_like(images, np.nan))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_benchmark_app_measures_the_same_file(contestant, images, tmp_path):
    ours = replace(contestant, backend="openvino")
    one, peer, three, peer_of_three = measure(
        with_peers(["openvino-benchmark-app"], [ours]), images, QUICK, tmp_path / "log"
    )
    for row in (peer, peer_of_three):
        assert row.reason is None
        assert row.measured.agreement is None
        assert row.measured.queries >= 2 * QUICK.least_queries
        assert row.measured.percentiles_ms == {}
        assert row.measured.cost.absent["load_ms"].startswith("a tool is a process of its own")
    assert {one.reason, three.reason} == {None}
    assert "Measuring performance" in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert")
def test_litert_benchmark_measures_batch_1_and_says_why_no_other(contestant, images, tmp_path):
    import onnx

    from quillrt.compile.litert import to_litert

    bundle = Bundle.open(find("digits", ".quill"))
    graph = next(entry for entry in bundle.entries if entry.path == "model.fp32.onnx")
    larger, _ = to_litert(onnx.load_from_string(bundle.read(graph)))
    ours = Contestant("litert", "fp32", bundle.manifest.model, larger)
    pixels = np.random.default_rng(0).normal(size=(4, 1, 28, 28)).astype(np.float32)
    own, peer, _, other = measure(with_peers(["litert-benchmark"], [ours]), pixels, QUICK, tmp_path / "log")
    assert (own.reason, peer.reason) == (None, None)
    assert peer.measured.median_ms > 0
    assert "and no other" in other.reason

    tiny, _ = to_litert(onnx.load_from_string(contestant.model))
    ours = replace(contestant, backend="litert", model=tiny)
    one = replace(QUICK, batches=(1,))
    (peer,) = measure(with_peers(["litert-benchmark"], [ours])[1:], images, one, tmp_path / "log")
    assert "two decimals" in peer.reason


def row_with(row, name, medians, kind="backend", builds=(0,) * 9):
    given = zip(builds, medians, strict=False)
    rounds = tuple(replace(row.measured.rounds[0], build=build, median_ms=ms) for build, ms in given)
    return replace(row, backend=name, kind=kind, measured=replace(row.measured, rounds=rounds))


@pytest.mark.parametrize(
    ("ours", "theirs", "difference", "why"),
    [
        ([1.02] * 5, [1.0] * 5, 0.02, "within"),
        ([1.5] * 5, [1.0] * 5, 0.5, "ours checks"),
        ([1.0, 1.0, 2.0, 3.0, 3.0], [1.0] * 5, 1.0, "too much to tell"),
        ([0.5, 0.9, 1.0, 1.1, 2.0], [1.0] * 5, 0.0, "too much to tell"),
    ],
)
def test_a_difference_is_explained_where_it_is_one(contestant, images, tmp_path, ours, theirs, difference, why):
    (row,) = measure([contestant], images, replace(QUICK, batches=(1,)), tmp_path / "log")
    rows = [row_with(row, "onnxruntime-cpu", ours), row_with(row, "onnxruntime-loop", theirs, "peer")]
    (found,) = beside(rows)
    assert found.difference == pytest.approx(difference)
    assert found.bounds == pytest.approx((min(ours) - 1, max(ours) - 1))
    assert why in found.why
    assert beside([row_with(row, "onnxruntime-cpu", ours, builds=range(5)), rows[1]])[0].bounds[1] >= found.bounds[1]
    assert beside(rows[1:]) == beside(rows[:1]) == ()


@pytest.fixture
def trtexec(tmp_path, monkeypatch):
    """A program that writes what it was told into ``told``, and two latencies where it was told to."""

    def trtexec(helps):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / "trtexec"
        path.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            f"told = {str(tmp_path / 'told')!r}\n"
            f"print({helps!r}) if '--help' in sys.argv else open(told, 'w').write(repr(sys.argv))\n"
            "names = [a.partition('=')[2] for a in sys.argv if a.startswith('--exportTimes')]\n"
            "for name in names:\n"
            "    json.dump([{'latencyMs': 0.5}, {'latencyMs': 0.75}, {'latencyMs': 0.6}], open(name, 'w'))\n"
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return trtexec


@pytest.mark.parametrize(("helps", "new"), [("--loadEngine", False), ("--includeDataTransfers --noCudaGraph", True)])
def test_trtexec_copies_and_makes_no_graphs_in_every_version(trtexec, helps, new, quadrants, tmp_path):
    trtexec(helps)
    tool = TrtExec()
    tool.open(Contestant("trtexec", "fp16", quadrants.spec, b"engine"), None, SessionOptions(), 0)
    ran = tool.round(8, 0.1, 3)
    assert (ran.median_ms, ran.queries, len(ran.latencies_ns)) == (0.6, 3, 0)
    tool._folder.cleanup()
    told = (tmp_path / "told").read_text()
    assert "--shapes=image:8x1x8x8" in told
    assert ("--includeDataTransfers" in told, "--noCudaGraph" in told) == (new, new)


def test_trtexec_runs_on_the_rows_gpu_and_loads_what_the_row_may_load(trtexec, quadrants, tmp_path):
    trtexec("")
    row = Contestant("trtexec", "fp16", quadrants.spec, b"engine")
    for contestant, device in ((row, 0), (replace(row, host_code=True), 1)):
        tool = TrtExec()
        tool.open(contestant, None, SessionOptions(device=device), 0)
        tool.round(8, 0.1, 3)
        tool._folder.cleanup()
        told = (tmp_path / "told").read_text()
        assert f"--device={device}" in told
        assert ("--versionCompatible" in told) == contestant.host_code


def test_trtexec_without_latencies_is_a_reason():
    assert trtexec_median(json.loads('[{"latencyMs": 2}, {"computeMs": 1}]')) == (2.0, 1)
    with pytest.raises(BackendUnavailable, match="found none"):
        trtexec_median([])


def test_benchmark_apps_median_has_a_unit():
    printed = "[ INFO ] Count:            574 iterations\n[ INFO ]    Median:        {} \n"
    assert benchmark_app_median(printed.format("0.50 ms")) == (0.5, 574)
    assert benchmark_app_median(printed.format("109.10 us")) == (pytest.approx(0.1091), 574)
    with pytest.raises(BackendUnavailable, match="found none"):
        benchmark_app_median("[ INFO ] Count:            574 iterations\n")


def test_every_peer_has_a_worker_and_a_backend():
    from quillrt.runtime.backends import BACKENDS

    assert {peer.backend for peer in PEERS.values()} <= set(BACKENDS)
    assert all(hasattr(peer_workers, peer.worker) for peer in PEERS.values())

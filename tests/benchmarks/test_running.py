import os
import signal
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from quillrt.benchmarks import deadline
from quillrt.benchmarks.contestants import Contestant
from quillrt.benchmarks.process import NoAnswer, Remote
from quillrt.benchmarks.rotation import laid_out
from quillrt.benchmarks.running import Settings, attempts_of, measure, rows_of
from quillrt.benchmarks.worker import Bench, Queries
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.precision import Precision
from quillrt.runtime.pretrained import find
from quillrt.runtime.select import candidates
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.termination import TERMINATED
from quillrt.runtime.trt_lane import Timing

QUICK = Settings(batches=(1, 8), seconds=0.1, rounds=2)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


@pytest.fixture
def worker(contestant, images, log):
    with (
        laid_out(images, 50) as files,
        Remote("quillrt.benchmarks.worker:Bench", log, contestant.name, threads=1) as worker,
    ):
        load_ms, build_s = worker.ask(60, "open", contestant, files, SessionOptions(threads=1), 0)
        assert load_ms > 0
        assert build_s is None
        yield worker


def test_worker_answers_as_numpy_does(worker, images, quadrants):
    first_ms, logits = worker.ask(30, "check", 8, 100)
    np.testing.assert_allclose(logits, quadrants.logits(images), rtol=1e-5, atol=1e-6)
    assert first_ms > 0


def test_every_product_has_the_time_of_one_layer():
    """onnxruntime names a convolution after the ReLU fused into it; the graph's own nodes say what was fused."""
    bundle = Bundle.open(find("digits", ".quill"))
    (entry,) = candidates(bundle, "onnxruntime-cpu", Precision.FP32)
    graph, spec = bundle.read(entry), bundle.manifest.model
    bench, one = Bench(), np.zeros((1, 1, 28, 28), np.float32)
    with laid_out(one, 2) as files:
        bench.open(Contestant("onnxruntime-cpu", "fp32", spec, graph), files, SessionOptions(threads=1), 0)
        layers = bench.layers(1)
    nodes = {node.name: node.op_type for node in onnx.load_from_string(graph).graph.node}
    products = Counter(name for layer in layers for name in layer.nodes if nodes[name] in ("Conv", "Gemm"))
    assert products == {name: 1 for name, kind in nodes.items() if kind in ("Conv", "Gemm")}


def test_a_round_lasts_its_time_and_holds_its_queries(worker):
    ran = worker.ask(30, "round", 1, 0.2, 3)
    assert ran.wall_ns >= 0.2e9
    assert 0 < ran.latencies_ns.sum() <= ran.wall_ns
    assert ran.median_ms == np.median(ran.latencies_ns) / 1e6
    assert worker.ask(30, "round", 1, 0.0, 7).queries == 7


def test_an_error_over_there_is_a_reason_and_not_the_end(worker):
    with pytest.raises(BackendUnavailable, match="no_such"):
        worker.ask(30, "no_such")
    assert worker.reason is None
    assert worker.ask(30, "device_ms", 1) is None


def test_a_killed_worker_has_its_signal_as_reason_for_good(worker):
    os.kill(worker._process.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="SIGKILL"):
            worker.ask(30, "check", 1, 100)


def test_a_worker_that_hangs_is_given_up_and_ended(worker):
    with pytest.raises(BackendUnavailable, match=r"no answer to 'round' within 0\.2 s"):
        worker.ask(0.2, "round", 1, 60.0, 1)
    assert worker._process.returncode == TERMINATED


def test_a_tool_that_hangs_leaves_nothing_behind(contestant, tmp_path, monkeypatch, log):
    """A program sleeps in place of trtexec: it, its worker and the worker's files end when the worker is given up."""
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ $1 = --help ] || {{ echo $$ > {tmp_path}/pid; exec sleep 60; }}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    with Remote("quillrt.benchmarks.peer_workers:TrtExec", log, "trtexec") as worker:
        worker.ask(60, "open", contestant, None, SessionOptions(), 0)
        assert list((tmp_path / "tmp").iterdir())
        with pytest.raises(NoAnswer):
            worker.ask(1, "round", 1, 1.0, 1)
    assert not list((tmp_path / "tmp").iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_worker_that_does_not_heed_sigterm_is_killed(worker, monkeypatch):
    monkeypatch.setattr(worker._process, "terminate", lambda: None)
    with pytest.raises(NoAnswer):
        worker.ask(0.2, "round", 1, 60.0, 1)
    assert worker._process.returncode == -signal.SIGKILL


def test_every_row_is_measured_or_has_its_reason(contestant, images, log):
    twice = replace(contestant, precision="int8")
    broken = replace(contestant, precision="fp16", model=b"no model")
    absent = Contestant("openvino", None, contestant.spec, reason="not on this machine")
    rows = measure([broken, contestant, absent, twice], images, QUICK, log)

    assert [(row.name, row.batch) for row in rows] == [
        (name, batch)
        for batch in (1, 8)
        for name in ("onnxruntime-cpu fp16", "onnxruntime-cpu fp32", "openvino", "onnxruntime-cpu int8")
    ]
    assert [row.reason is None for row in rows] == [False, True, False, True] * 2
    assert [row.measured is None for row in rows] == [True, False, True, False] * 2
    assert rows[2].reason == "not on this machine"
    assert "cannot load the model" in rows[0].reason
    row = rows[7]
    assert row.measured.agreement.reference == "onnxruntime-cpu fp32"
    assert row.measured.agreement.same_label == 1
    assert row.measured.agreement.max_difference == 0
    assert row.measured.agreement.images == 20
    assert [len(each.latencies_ns) >= 32 for each in row.measured.rounds] == [True, True]
    assert row.measured.queries == sum(len(each.latencies_ns) for each in row.measured.rounds)
    assert row.measured.images_per_second == pytest.approx(row.measured.queries * 8 / row.measured.wall_s)
    assert row.measured.wall_s >= 0.1
    assert "== onnxruntime-cpu fp32" in log.read_text()


def test_a_contestant_of_one_batch_size_has_a_row_at_that_alone(contestant, images, log):
    rows = measure([contestant, replace(contestant, precision="int8", batch=8)], images, QUICK, log)
    assert [(row.name, row.batch, row.reason) for row in rows] == [
        ("onnxruntime-cpu fp32", 1, None),
        ("onnxruntime-cpu fp32", 8, None),
        ("onnxruntime-cpu int8", 8, None),
    ]


def test_a_crash_in_the_middle_ends_its_own_rows_only(contestant, images, log):
    def crashing(items, label, total=None):
        for item in items:
            if label == "batch 1":
                _, attempt = item
                if attempt.contestant.precision == "fp16" and attempt.reason is None:
                    os.kill(attempt._remote._process.pid, signal.SIGSEGV)
            yield item

    rows = measure([replace(contestant, precision="fp16"), contestant], images, QUICK, log, crashing)
    assert [row.measured is None for row in rows] == [True, False, True, False]
    assert "SIGSEGV" in rows[0].reason
    assert "log.txt" in rows[2].reason


def test_what_is_left_when_the_time_is_up_says_so(contestant, images, log):
    """The time ends while batch 1 is measured, which is measured to its end; batch 8 is not begun."""
    settings = replace(QUICK, batches=(1, 8), seconds=1.0, whole_s=10.0)

    def slow(items, label, total=None):
        if label == "batch 1":
            clock[0] += 11.0
        return items

    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadline, "monotonic", lambda: clock[0])
        one, eight = measure([contestant], images, settings, log, slow)
        (late, _) = measure([contestant], images, replace(settings, whole_s=-1.0), log)
    assert one.measured is not None
    assert eight.reason == late.reason == "the time for the whole run was up before its turn"


def test_no_answer_is_waited_for_much_longer_than_the_time_there_is(contestant, images, log, monkeypatch):
    """The clock stands still; a contestant that hangs has what is left and ``LAST_S``, not ``PATIENCE_S``."""
    waited = []

    def hang(self, timeout_s, name, *args):
        waited.append((name, timeout_s))
        clock[0] += timeout_s
        self._lose(f"no answer to {name!r}", NoAnswer)

    clock = [100.0]
    monkeypatch.setattr(deadline, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Remote, "ask", hang)
    rows = measure([contestant, contestant], images, replace(QUICK, whole_s=50.0), log)
    assert waited == [("open", 25.0 + deadline.LAST_S)]
    assert {row.reason for row in rows[::2]} == {
        f"{deadline.LATE} in its turn: no answer to 'open'; log.txt has what it printed"
    }
    assert {row.reason for row in rows[1::2]} == {f"{deadline.LATE} before its turn"}
    waited.clear()
    measure([contestant], images, replace(QUICK, whole_s=10_000.0), log)
    measure([contestant], images, QUICK, log)
    assert waited == [("open", deadline.PATIENCE_S)] * 2


def test_rows_measured_later_are_compared_with_those_before(contestant, images, log):
    first = attempts_of([contestant], images, QUICK, log)
    rows = rows_of(attempts_of([replace(contestant, precision="int8")], images, QUICK, log), first)
    assert [(row.name, row.batch) for row in rows] == [("onnxruntime-cpu int8", 1), ("onnxruntime-cpu int8", 8)]
    for row in rows:
        assert (row.measured.agreement.reference, row.measured.agreement.same_label) == ("onnxruntime-cpu fp32", 1)


def test_a_model_that_takes_one_batch_size_only_fails_at_the_others(contestant, images, log):
    import onnx

    model = onnx.load_from_string(contestant.model)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    one, eight = measure([replace(contestant, model=model.SerializeToString())], images, QUICK, log)
    assert one.measured is not None
    assert eight.measured is None
    assert "batch" in eight.reason or "dimension" in eight.reason


def test_logits_that_are_not_finite_are_no_result(contestant, images, log):
    import onnx

    model = onnx.load_from_string(contestant.model)
    weight = model.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full(weight.dims, np.nan, np.float32), weight.name))
    broken = replace(contestant, precision="fp16", model=model.SerializeToString())
    wrong, right = measure([broken, contestant], images, replace(QUICK, batches=(1,)), log)
    assert "must be finite" in wrong.reason
    assert right.measured.agreement.reference == "onnxruntime-cpu fp32"


def test_batches_are_whole_and_rotate():
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    queries, few = Queries(images, 4), Queries(images[:2], 5)
    assert [queries[turn].ravel().tolist() for turn in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert few[1].ravel().tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0.0])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ConfigError, match="seconds per row"):
        Settings(seconds=seconds)


@pytest.mark.parametrize(
    ("backend", "graphs", "told"), [("tensorrt", True, False), ("tensorrt", False, True), ("tensorrt-rtx", True, True)]
)
def test_a_row_of_cuda_graphs_has_no_device_times_of_queries_without(backend, graphs, told):
    bench = Bench()
    bench._rotation, bench._backend, bench._graphed = np.zeros((4, 1, 4, 4), np.float32), backend, graphs
    bench._session = SimpleNamespace(run_timed=lambda images: (None, Timing(0.1, 0.01, 0.1, 0.5)))
    assert (bench.device_ms(2) is not None) is told

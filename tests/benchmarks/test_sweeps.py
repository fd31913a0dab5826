"""Sweeps: knees by hand and on planted throughputs, who is measured, and a real one with tiny networks."""

import importlib.util
import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from invented import REFERENCE, result, row
from simulated import MS, Planted, Session

from quillrt.benchmarks import sweeps
from quillrt.benchmarks.columns import to_csv
from quillrt.benchmarks.contestants import Contestant, bundle_contestants, torch_contestants
from quillrt.benchmarks.html_report import to_html
from quillrt.benchmarks.repeating import bench_command
from quillrt.benchmarks.report import to_markdown
from quillrt.benchmarks.resized import resized
from quillrt.benchmarks.running import Settings, measure
from quillrt.benchmarks.scaling_report import scaling_tables
from quillrt.benchmarks.stored import load_result
from quillrt.benchmarks.sweeps import knee, thread_counts, threaded, to_the_knee, with_knees
from quillrt.compile.source import load_source
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint, save_checkpoint
from quillrt.train.models import build_model


@pytest.mark.parametrize(
    ("throughputs", "found"),
    [
        ({1: 100, 2: 190, 4: 300, 8: 310, 16: 305}, 4),  # 300 of 310 is 97 %
        ({1: 95, 2: 100}, 1),  # 95 % to the point
        ({1: 94.9, 2: 100, 4: 90}, 2),
        ({1: 100, 2: 200, 4: 400}, None),  # it may rise further
        ({1: 100}, None),
    ],
)
def test_the_knee_by_hand(throughputs, found):
    assert knee(throughputs) == found


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_threads_double_up_to_the_cores(cores, counts):
    assert thread_counts(cores) == counts


@pytest.fixture
def swept_batches(images, tmp_path):
    """Sweep the batches of planted contestants: the rows."""

    def swept_batches(*contestants, first=(1,)):
        def at(*batches):
            settings = Settings(batches=batches, seconds=0.5)
            return measure(contestants, images, settings, tmp_path / "log.txt")

        return with_knees(to_the_knee(at(*first), at))

    return swept_batches


def full_at(batch):
    """The time of a backend that computes so many images as fast as one, and more each after the other."""
    return lambda n, images: max(len(images), batch) * MS


def test_a_sweep_ends_two_steps_beyond_the_last_knee(planted, swept_batches):
    rows = swept_batches(planted("eager", full_at(4)), planted("litert", full_at(16)))
    assert [row.batch for row in rows if row.backend == "eager"] == [1, 2, 4, 8, 16, 32, 64]
    assert [(row.backend, row.batch) for row in rows if row.knee] == [("eager", 4), ("litert", 16)]
    rates = {row.batch: row.measured.images_per_second for row in rows if row.backend == "eager"}
    assert rates[1] == pytest.approx(250, rel=0.01)  # a query of 4 ms
    assert rates[32] == pytest.approx(1000, rel=0.01)


def test_a_batch_that_was_disturbed_throughout_does_not_end_it(planted, swept_batches):
    def disturbed(n, images):
        return max(len(images), 8) * MS * (3 if len(images) == 2 else 1)

    rows = swept_batches(planted("eager", disturbed))
    assert [row.batch for row in rows if row.knee] == [8]


def test_batches_that_were_measured_before_are_part_of_it(planted, swept_batches):
    rows = swept_batches(planted("eager", full_at(2)), first=(1, 6))
    assert [row.batch for row in rows] == [1, 2, 4, 6, 8]
    assert [row.batch for row in rows if row.knee] == [2]


def test_a_disturbed_round_moves_no_knee():
    """Batch 2 is as fast as batch 4, but a neighbour halved one of its rounds."""
    quiet, disturbed = (1.0,) * 5, (1.0, 1.0, 2.0, 1.0, 1.0)
    times = {1: (1.0, quiet), 2: (1.0, disturbed), 4: (2.0, quiet), 8: (4.0, quiet)}
    rows = with_knees([row(REFERENCE, batch, ms, rounds=rounds) for batch, (ms, rounds) in times.items()])
    assert [each.batch for each in rows if each.knee] == [2]
    whole = {each.batch: each.measured.images_per_second for each in rows}
    assert knee(whole) == 4


def test_what_rises_to_the_end_has_no_knee(planted, swept_batches, monkeypatch):
    monkeypatch.setattr(sweeps, "_LARGEST_BATCH", 64)
    rows = swept_batches(planted("eager", MS))
    assert [row.batch for row in rows] == [1, 2, 4, 8, 16, 32, 64]
    assert not any(row.knee for row in rows)


def test_rows_that_cannot_run_end_it_at_once(quadrants, swept_batches):
    rows = swept_batches(Contestant("litert", "fp32", quadrants.spec, reason="no LiteRT"))
    assert [(row.batch, row.reason, row.knee) for row in rows] == [(1, "no LiteRT", False)]


def test_each_row_on_the_cpu_is_run_with_each_count_of_threads(clock, images, quadrants, tmp_path):
    asked = {}

    class Asked(Planted):
        def open(self, options):
            asked[self.name] = options.threads
            return super().open(options)

    own = Asked("eager", "fp32", quadrants.spec, b"model", session=lambda: Session(clock, lambda n, batch: MS))
    others = (
        replace(own, backend="onnxruntime-loop", kind="peer"),
        replace(own, backend="tensorrt"),  # computes on a GPU
        replace(own, backend="litert", reason="no LiteRT"),
    )
    everyone = threaded([own, *others], usual=2, cores=4)
    assert [each.name for each in everyone] == [
        "eager fp32",
        "onnxruntime-loop fp32",  # right after the row that it stands beside
        "eager fp32 1 thread",
        "eager fp32 4 threads",
        "tensorrt fp32",
        "litert fp32",
    ]
    settings = Settings(batches=(1,), seconds=0.1, threads=2)
    rows = measure([everyone[0], *everyone[2:4]], images, settings, tmp_path / "log.txt")
    assert asked == {"eager fp32": 2, "eager fp32 1 thread": 1, "eager fp32 4 threads": 4}
    assert [(row.threads, row.series) for row in rows] == [(each, "eager fp32") for each in (None, 1, 4)]


@pytest.fixture
def made():
    """A result with all three sweeps."""
    batches = [row(REFERENCE, batch, ms) for batch, ms in ((1, 1.0), (2, 1.0), (4, 2.0), (8, 4.0))]
    two = replace(row(REFERENCE, 1, 0.6), threads=2)
    sizes = [
        replace(row(REFERENCE, 1, ms), image_size=size, why="only speed is compared")
        for size, ms in ((28, 1.0), (64, 5.0))
    ]
    found = result(*with_knees([*batches, two]))
    found = replace(found, rows=(*found.rows, *sizes), settings={**found.settings, "sweeps": list(sweeps.SWEEPS)})
    return replace(found, settings={**found.settings, "batches": [1]})


def test_the_tables_have_throughput_by_what_was_swept(made):
    rates = {each.name: f"{each.measured.images_per_second:,.0f}" for each in made.rows if each.batch == 1}
    by_batch, by_threads, by_size = scaling_tables(made)
    assert by_batch[1] == ("backend", "threads", "1", "2", "4", "8")
    ((name, threads, *cells),) = by_batch[2]
    assert (name, threads) == (REFERENCE, "1")
    assert [cell.endswith(" (knee)") for cell in cells] == [False, True, False, False]
    assert by_threads[1:] == (
        ("backend", "batch", "1", "2"),
        [(REFERENCE, "1", rates[REFERENCE], rates[f"{REFERENCE} 2 threads"])],
    )
    assert by_size[1] == ("backend", "batch", "28", "64")
    assert by_size[2] == [
        (REFERENCE, "1", rates[f"{REFERENCE} 28 x 28 untrained"], rates[f"{REFERENCE} 64 x 64 untrained"])
    ]
    page = to_markdown(made, "t")
    for title, _, _ in (by_batch, by_threads, by_size):
        assert f"\n{title}:\n" in page
    assert scaling_tables(result(row(REFERENCE, 1, 1.0))) == []


def test_the_page_and_csv_mark_the_knee(made):
    page = to_html({"one": made})
    for what in ("batch size", "CPU threads", "image size"):
        assert f"<h2>Throughput against {what}</h2>" in page
    assert page.count('class="knee"') == 2  # one ring, for a desktop and for a phone
    assert f"{REFERENCE}, batch 2: " in page.split(", the knee")[0].rsplit("<title>", 1)[1]
    header, *lines = (line.split(",") for line in to_csv({"one": made}).splitlines())
    cells = [[line[header.index(key)] for key in ("batch", "threads", "image_size", "knee")] for line in lines]
    assert [each for each in cells if any(each[1:])] == [
        ["1", "2", "", ""],
        ["2", "", "", "knee"],
        ["1", "", "28", ""],
        ["1", "", "64", ""],
    ]


def test_the_command_repeats_the_sweeps(made):
    words = bench_command(made)
    assert "--batch 1 --seconds" in words
    assert "--sweep batch --sweep threads --sweep size" in words
    assert "--variant" not in words


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A checkpoint of `cnn` for 8 x 8 pixels as it was initialised, and a bundle of its FP32 graph."""
    spec = character_spec(tuple("0123456789"), Preprocessing(height=8, width=8))
    checkpoint = tmp_path_factory.mktemp("untrained") / "small.safetensors"
    save_checkpoint(checkpoint, Checkpoint.of("cnn", spec, build_model("cnn", 10, 8, 8).state_dict(), {}))
    source, backends = load_source(checkpoint), ("onnxruntime-cpu",)
    model = source.graph.SerializeToString()
    entry = entry_for(model, "model.fp32.onnx", "onnx", precision=Precision.FP32, backends=backends)
    write_bundle(checkpoint.with_suffix(".quill"), spec, source.record, [entry])
    return checkpoint


def test_sizes_without_pytorch_are_refused_before_anything_is_measured(quillrt, untrained, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("quillrt.benchmarks.resized.find_spec", lambda name: None if name == "torch" else find(name))
    options = ("--checkpoint", untrained, "--sweep", "size", "--output", tmp_path / "out")
    assert quillrt("bench", untrained.with_suffix(".quill"), *options) == (
        1,
        "",
        "quillrt: error: the sweep size needs torch: pip install 'quillrt[train,compile]'\n",
    )
    assert not (tmp_path / "out").exists()


def test_a_network_of_another_size_is_the_same_in_every_row(untrained):
    """PyTorch's rows and the bundle's have the same weights, which take images of that size."""
    batch = np.random.default_rng(0).normal(size=(3, 1, 12, 12)).astype(np.float32)
    with resized(untrained, 12) as (bundle, checkpoint):
        rows = (*torch_contestants(bundle.manifest.model, checkpoint), *bundle_contestants(bundle))
        eager, graph, int8 = (
            next(row for row in rows if row.name == name)
            for name in ("eager fp32", "onnxruntime-cpu fp32", "onnxruntime-cpu int8")
        )
        wanted, exact, rounded = (row.open(SessionOptions(threads=1)).run(batch) for row in (eager, graph, int8))
    assert wanted.shape == (3, 10)
    np.testing.assert_allclose(exact, wanted, atol=1e-5)
    assert 0.5 < np.corrcoef(rounded.ravel(), wanted.ravel())[0, 1] < 1  # ranges of noise are coarse
    assert not checkpoint.exists()


def test_a_real_sweep_has_the_published_form(quillrt, untrained, tmp_path, monkeypatch):
    jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema, out of the extra dev")
    monkeypatch.setattr("quillrt.benchmarks.rotation.last_cache_bytes", lambda: None)
    monkeypatch.setattr("quillrt.benchmarks.bench.cores", lambda: 2)
    monkeypatch.setattr("quillrt.benchmarks.bench.SIZES", (2, 12))
    monkeypatch.setattr(sweeps, "_LARGEST_BATCH", 2)
    chosen = ("--backend", "onnxruntime-cpu", "--seconds", 0.02, "--rounds", 1, "--batch", 2)
    swept = ("--sweep", "batch", "--sweep", "threads", "--sweep", "size")
    options = ("--checkpoint", untrained, "--output", tmp_path, "--quiet", *chosen, *swept)
    code, out, err = quillrt("bench", untrained.with_suffix(".quill"), *options)
    assert (code, err) == (0, "")
    for title in ("Images/s by batch", "Images/s by CPU threads", "Images/s by pixels a side"):
        assert title in out
    found = json.loads((tmp_path / "result.json").read_text())
    schema = json.loads((files("quillrt.benchmarks") / "result.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, schema)
    load_result(tmp_path / "result.json")
    assert [(row["name"], row["batch"]) for row in found["rows"] if row["image_size"] is None] == [
        ("onnxruntime-cpu fp32", 1),
        ("onnxruntime-cpu fp32", 2),
        ("onnxruntime-cpu fp32 2 threads", 2),
    ]
    sized = [row for row in found["rows"] if row["image_size"] is not None]
    assert [row["name"] for row in sized] == [f"onnxruntime-cpu {each} 12 x 12 untrained" for each in ("fp32", "int8")]
    for each in sized:
        assert each["measured"]["median_ms"] > 0
        assert (each["measured"]["agreement"], each["measured"]["accuracy"]) == (None, None)
        assert (each["verdict"], "only speed is compared" in each["why"]) == ("not judged", True)
    assert any(line.startswith("no rows of 2 x 2 pixels: expected") for line in found["warnings"])
    assert np.isfinite([row["measured"]["images_per_second"] for row in found["rows"]]).all()

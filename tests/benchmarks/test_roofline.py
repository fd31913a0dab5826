"""The roofline's arithmetic by hand, the peaks' measuring with planted work, and a real one through the command."""

import json
import sys
from dataclasses import replace
from importlib.resources import files

import pytest
from invented import REFERENCE, result, row

from quillrt.benchmarks import peaks as peaks_module
from quillrt.benchmarks.columns import tables, to_csv
from quillrt.benchmarks.contestants import Contestant
from quillrt.benchmarks.html_report import to_html
from quillrt.benchmarks.peaks import Peaks, Prober
from quillrt.benchmarks.report import conditions, notes
from quillrt.benchmarks.roofline import Peak, Work, formats, roofline, work_of
from quillrt.benchmarks.roofline_report import ROOFLINE_COLUMNS, roofline_cells
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, BundleError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.pretrained import find

WORK = Work(macs=1000, weights=500, values=100)


def peak(kind, per_s, how="a product"):
    return Peak("cpu", 1, kind, per_s, 5, how)


PEAKS = (peak("fp32", 1e6), peak("int8", 4e6), peak("copy", 1e6))


def test_the_work_of_quadrants_by_hand(quadrants_bundle):
    """One product of 64 pixels with 64 x 4 weights; 64 numbers come in, 4 go out."""
    assert work_of(Bundle.open(quadrants_bundle)) == Work(macs=64 * 4, weights=64 * 4, values=64 + 4)


def test_the_work_of_the_digits_network_by_hand():
    """Seven 3 x 3 convolutions, (channels in, out, side of what they give), and a product; batch norms are folded."""
    convolutions = [(1, 32, 28), (32, 32, 28), (32, 64, 14), (64, 64, 14), (64, 96, 7), (96, 96, 7), (96, 96, 7)]
    found = work_of(Bundle.open(find("digits", ".quill")))
    assert found.macs == sum(9 * i * o * side**2 for i, o, side in convolutions) + 96 * 10 == 29_128_128
    biases = sum(o for _, o, _ in convolutions) + 10
    assert found.weights == sum(9 * i * o for i, o, _ in convolutions) + 96 * 10 + biases
    assert found.values == 28 * 28 + 10


def test_a_bundle_without_an_fp32_graph_has_nothing_to_count(tmp_path, quadrants):
    with pytest.raises(BundleError, match=r"expected an FP32 graph .* found none in empty\.quill; compile it again"):
        work_of(Bundle(tmp_path / "empty.quill", Manifest(quadrants.spec, {}, ()), {}, ""))


@pytest.mark.parametrize(
    ("precision", "batch", "bytes_", "bound_ms", "limited_by"),
    [
        ("fp32", 1, 4 * 500 + 400, 2.4, "memory"),  # 1 ms of multiply-adds
        ("fp32", 2, 4 * 500 + 800, 2.8, "memory"),  # 2 ms
        ("fp32", 10, 4 * 500 + 4000, 10.0, "compute"),  # 6 ms of bytes
        ("int8", 1, 500 + 400, 0.9, "memory"),  # 0.25 ms of multiply-adds
    ],
)
def test_the_bound_by_hand(precision, batch, bytes_, bound_ms, limited_by):
    found = roofline(WORK, precision, {}, batch, 4 * bound_ms, PEAKS)
    assert (found.bytes, found.limited_by, found.told_by) == (bytes_, limited_by, "precision")
    assert found.bound_ms == pytest.approx(bound_ms)
    assert found.fraction == pytest.approx(0.25)
    assert found.intensity == pytest.approx(1000 * batch / bytes_)
    assert (found.above, found.reason) == (None, None)


def test_formats_are_those_that_the_kernels_compute_in():
    """FP16 graphs that onnxruntime computes in FP32, a graph that is half INT8, and a kernel that nobody named."""
    assert formats(WORK, "fp16", {"fp32": 1000}) == {"fp32": 1000}
    assert formats(WORK, "fp16", {}) == {"fp16": 1000}
    assert formats(WORK, "mixed", {}) == {"int8": 1000}
    assert formats(WORK, "int8", {"int8": 600, "fp32": 300, "unknown": 100}) == {"int8": 700, "fp32": 300}
    found = roofline(WORK, "int8", {"int8": 600, "fp32": 400}, 10, 11.0, PEAKS)
    assert found.bound_ms == pytest.approx(10 * (600 / 4e6 + 400 / 1e6) * 1e3)  # one format after the other
    assert found.peak_macs_per_s == pytest.approx(10_000 / 5.5e-3)
    assert (found.fraction, found.told_by) == (pytest.approx(0.5), "kernels")
    assert roofline(WORK, "fp16", {"fp32": 1000}, 1, 1.0, PEAKS).bytes == 2 * 500 + 400  # weights are stored in FP16


def test_without_a_peak_there_is_a_reason_instead_of_a_bound():
    found = roofline(WORK, "fp8", {}, 1, 1.0, (*PEAKS, peak("fp8", None, "not measured: fp8 needs torch")))
    assert (found.bound_ms, found.fraction, found.limited_by) == (None, None, None)
    assert found.reason == "no peak of fp8: not measured: fp8 needs torch"
    assert roofline(WORK, "fp32", {}, 1, 1.0, PEAKS[:1]).reason == "no peak of copy: not measured"
    assert "no convolution" in roofline(replace(WORK, macs=0), "fp32", {}, 1, 1.0, PEAKS).reason


def test_a_row_above_its_bound_says_why():
    assert "stay in a cache" in roofline(WORK, "fp32", {}, 1, 1.2, PEAKS).above
    above = roofline(WORK, "fp32", {}, 10, 5.0, PEAKS).above
    assert "multiplies faster in fp32 than" in above
    assert "or less often (Winograd)" in above


@pytest.fixture
def roofed():
    """A result of two rows under a roof, one of them above it."""
    rows = row(REFERENCE, 1, 4.8), row("litert int8", 1, 0.45), row("openvino bf16", 1, 1.0)
    return result(
        *(replace(r, roofline=roofline(WORK, r.precision, {}, 1, r.measured.median_ms, PEAKS)) for r in rows),
        peaks=(*PEAKS, peak("bf16", None, "not measured: bf16 needs torch")),
    )


def test_every_report_has_the_bound_and_marks_who_is_above(roofed):
    cells = {line[0]: dict(zip(ROOFLINE_COLUMNS, line, strict=True)) for line in roofline_cells(roofed.rows)}
    assert cells[REFERENCE]["of bound"] == "50.0%"
    assert cells["litert int8"]["of bound"] == "200.0% (above)"
    assert cells["openvino bf16"]["of bound"] == "–"
    said = notes(roofed.rows)
    assert "faster than its bound: litert int8: its weights stay in a cache from query to query" in said
    assert "no bound: openvino bf16: no peak of bf16: not measured" in said
    (line,) = [line for line in conditions(roofed) if line.startswith("Bound: ")]
    assert "cpu, threads 1, int8: 0.0 GMAC/s (a product, best of n = 5)" in line
    assert "bf16: not measured: bf16 needs torch" in line
    assert "Under the roof of this machine" in tables(roofed)
    header, *lines = to_csv({"one": roofed}).splitlines()
    fractions = [line.split(",")[header.split(",").index("bound_fraction")] for line in lines]
    assert [each and round(float(each), 9) for each in fractions] == [0.5, 2.0, ""]


def test_the_page_draws_each_row_below_its_roof(roofed):
    page = to_html({"one": roofed})
    assert ">Under the roof of this machine</h2>" in page
    assert page.count('class="roof"') == 2 * 2  # FP32's and INT8's, for a desktop and for a phone
    assert "eager fp32, 50%" in page
    assert "litert int8: 200.0% of its bound, limited by memory; its weights stay in a cache" in page
    assert "openvino bf16: " not in page.split("Under the roof of this machine</h2>")[1].split("</section>")[0]


@pytest.mark.parametrize("change", [{"peak_bytes_per_s": None}, {"peak_bytes_per_s": 0.0}, {"peak_macs_per_s": 0.0}])
def test_a_stored_row_without_a_roof_is_not_drawn(roofed, change):
    first, *others = roofed.rows
    strange = replace(first, roofline=replace(first.roofline, **change))
    page = to_html({"one": replace(roofed, rows=(strange, *others))})
    drawn = page.split("Under the roof of this machine</h2>")[1].split("</section>")[0]
    assert "litert int8: " in drawn
    assert f"{REFERENCE}: " not in drawn


class Fake:
    """Stands for ``Remote``: answers as planted, and counts who was asked for what."""

    asked: list

    def __init__(self, target, log, title, threads=None):
        self.threads = threads

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, timeout_s, name, *args):
        self.asked.append((name, args[0] if name == "product" else None, self.threads))
        if args[0] == "bf16":
            raise BackendUnavailable("this processor has none")
        return 1e6, 7, "planted"


def test_each_peak_is_measured_once_when_a_row_wants_it(monkeypatch, tmp_path, quadrants):
    monkeypatch.setattr(peaks_module, "Remote", Fake)
    Fake.asked = []
    contestants = [
        Contestant("eager", "fp32", quadrants.spec),
        Contestant("onnxruntime-cpu", "fp16", quadrants.spec, computes={"fp32": 1000}),
        Contestant("openvino", "bf16", quadrants.spec),
        Contestant("litert", "int8", quadrants.spec, reason="no LiteRT"),
    ]
    rows = [row("eager fp32", 1, 4.8), row("onnxruntime-cpu fp16", 1, 4.8), row("openvino bf16", 1, 4.8)]
    found = Peaks(0, tmp_path / "log.txt")
    for _ in range(2):
        placed = found.over(rows, contestants, WORK, 3)
        assert Fake.asked == [("product", "fp32", 3), ("copy", None, 3), ("product", "bf16", 3)]
    assert [each.roofline.fraction for each in placed] == [pytest.approx(0.5), pytest.approx(1.4 / 4.8), None]
    assert found.measured["cpu", 3, "bf16"].how == "not measured: this processor has none"


def test_what_fewer_threads_did_more_can_do_as_well(monkeypatch, tmp_path, quadrants):
    """Here two threads are slower than one: a neighbour disturbed them."""

    class Disturbed(Fake):
        def ask(self, timeout_s, name, *args):
            return 1e6 / self.threads, 7, "planted"

    monkeypatch.setattr(peaks_module, "Remote", Disturbed)
    contestants = [Contestant("eager", "fp32", quadrants.spec, threads=count) for count in (None, 2)]
    rows = [row("eager fp32", 1, 4.8), replace(row("eager fp32", 1, 4.8), threads=2)]
    found = Peaks(0, tmp_path / "log.txt")
    placed = found.over(rows, contestants, WORK, 1)
    assert {key[1]: peak.per_s for key, peak in found.measured.items()} == {1: 1e6, 2: 5e5}
    assert [each.roofline.fraction for each in placed] == [pytest.approx(0.5)] * 2


def test_the_fastest_of_several_runs_counts(monkeypatch):
    times = iter([0.0, 0.0, 0.2, 0.2, 0.3, 0.3, 0.35, 0.35, 0.36, 0.36, 0.9, 1.0])
    ticks = []
    monkeypatch.setattr(peaks_module, "perf_counter", lambda: next(times))
    took, count = peaks_module._fastest(lambda: ticks.append("run"), lambda: ticks.append("wait"))
    assert (took, count) == (pytest.approx(0.01), 5)
    assert ticks == ["run", "wait"] * 6  # the first warms up


def test_the_size_that_suits_best_counts_with_its_own_repeats(monkeypatch):
    monkeypatch.setattr(peaks_module, "find_spec", lambda name: None)
    timed = iter([(0.02, 30), (0.04, 7), (0.4, 5)])  # of 256, 512 and 1024: 0.84, 3.4 and 2.7 GMAC/s
    monkeypatch.setattr(peaks_module, "_fastest", lambda run, wait: next(timed))
    assert Prober().product("fp32", None, 1) == (512**3 / 0.04, 7, "numpy.matmul of 512 x 512")
    assert next(timed, None) is None  # behind one of 0.4 s there is none


def test_without_torch_numpy_multiplies_in_fp32_alone(monkeypatch):
    monkeypatch.setattr(peaks_module, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(peaks_module, "_LARGEST", 256)
    monkeypatch.setattr(peaks_module, "_SECONDS", 0.01)
    rate, repeats, how = Prober().product("fp32", None, 1)
    assert rate > 0
    assert repeats >= 5
    assert how == "numpy.matmul of 256 x 256"
    assert "numpy.copyto" in Prober().copy(None, 1, 2**20)[2]
    with pytest.raises(BackendUnavailable, match=r"int8 needs torch: pip install 'quillrt\[train\]'"):
        Prober().product("int8", None, 1)


def test_a_real_roofline_has_the_published_form(quillrt, quadrants_bundle, tmp_path, monkeypatch):
    jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema, out of the extra dev")
    monkeypatch.setattr("quillrt.benchmarks.rotation.last_cache_bytes", lambda: None)
    monkeypatch.setattr("quillrt.benchmarks.peaks.last_cache_bytes", lambda: None)
    options = ("--batch", 2, "--seconds", 0.02, "--backend", "onnxruntime-cpu", "--backend", "eager", "--roofline")
    code, out, _ = quillrt("bench", quadrants_bundle, "--output", tmp_path, "--quiet", *options)
    assert code == 0
    assert "Under the roof of this machine" in out
    found = json.loads((tmp_path / "result.json").read_text())
    schema = json.loads((files("quillrt.benchmarks") / "result.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, schema)
    told = {each["kind"]: each for each in found["peaks"]}
    assert set(told) == {"fp32", "copy"}
    assert told["fp32"]["per_s"] > 1e8  # any processor's, by far
    (measured,) = (each["roofline"] for each in found["rows"] if each["measured"])
    assert measured["macs"] == {"fp32": 2 * 256}
    assert measured["bytes"] == 4 * (256 + 2 * 68)
    assert measured["bound_ms"] == pytest.approx(
        1e3 * max(512 / told["fp32"]["per_s"], measured["bytes"] / told["copy"]["per_s"])
    )
    assert "## " not in (tmp_path / "result.md").read_text().split("Under the roof of this machine")[1]

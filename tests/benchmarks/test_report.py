import json
import re
from dataclasses import asdict, replace

import pytest
from PIL import Image

from quillrt.benchmarks.comparing import judged
from quillrt.benchmarks.contestants import Contestant
from quillrt.benchmarks.environment import describe, ended, hardware_line
from quillrt.benchmarks.report import (
    ANSWER_COLUMNS,
    COLUMNS,
    COST_COLUMNS,
    cells,
    cost_cells,
    notes,
    to_markdown,
    write_report,
)
from quillrt.benchmarks.results import Beside, Result, Winner
from quillrt.benchmarks.rotation import plan
from quillrt.benchmarks.running import Settings, measure


@pytest.fixture
def result(contestant, images, tmp_path):
    absent = Contestant("tensorrt", "fp16", contestant.spec, reason="no NVIDIA GPU: none | at all")
    settings = Settings(batches=(1, 8), seconds=0.05, rounds=2)
    rows = measure([contestant, absent, replace(absent, precision="fp32")], images, settings, tmp_path / "log.txt")
    about = {**asdict(settings), "preset": None, "images": 20, "source": "noise", "provider_options": {}}
    rows, baseline, winners = judged(rows)
    return Result(about, ended(describe()), rows, plan(images, "noise"), baseline, winners)


def test_environment_tells_the_machine_and_no_paths_or_names():
    environment = describe()
    text = json.dumps(environment, allow_nan=False)
    import getpass
    import platform
    from pathlib import Path

    assert not re.search(r'"(/|~|[A-Z]:\\\\)', text)
    assert str(Path.home()) + "/" not in text
    for name in (platform.node(), f"/{getpass.getuser()}/"):
        assert len(name) < 4 or name not in text
    assert environment["device"]["cpu"] in hardware_line(environment)
    assert environment["packages"]["numpy"] == pytest.importorskip("numpy").__version__


def test_the_table_holds_what_was_measured(result):
    table = cells(result.rows)
    assert [line[:2] for line in table] == [("onnxruntime-cpu fp32", "1"), ("onnxruntime-cpu fp32", "8")]
    assert {len(line) for line in table} == {len(COLUMNS)}
    assert table[0][COLUMNS.index("× eager")] == "–"
    assert table[0][COLUMNS.index("× ONNX Runtime")] == "1.00"


def test_each_reason_stands_below_the_table_once(result):
    assert notes(result.rows) == ["not run here: tensorrt fp16; tensorrt fp32: no NVIDIA GPU: none | at all"]
    killed = replace(result.rows[3], measured=None, reason="out of memory")
    assert (killed.name, killed.batch) == ("onnxruntime-cpu fp32", 8)
    assert notes([result.rows[0], killed]) == ["not run here: onnxruntime-cpu fp32, batch 8: out of memory"]
    assert notes(result.rows[:1]) == []


def test_a_percentile_is_printed_from_its_number_of_queries_on(result):
    first = result.rows[0]
    few = replace(first, measured=replace(first.measured, percentiles_ms={"p50": 1.0, "p90": 2.0}))
    (line,) = cells([few])
    assert line[COLUMNS.index("p90 ms")] == "2.000"
    assert line[COLUMNS.index("p99 ms")] == "–"


def test_the_enqueue_that_holds_the_gpu_up_is_said(result):
    first = result.rows[0]
    times = {"h2d_ms": 0.1, "compute_ms": 1.0, "d2h_ms": 0.1}
    lines = [
        notes([replace(first, measured=replace(first.measured, device_ms={**times, "enqueue_ms": enqueue}))])
        for enqueue in (0.79, 0.81)
    ]
    assert lines == [[], ["host-bound, enqueue above 0.8 of compute: onnxruntime-cpu fp32, batch 1"]]


def test_device_times_stand_under_the_table(result):
    assert "device events" not in to_markdown(result, "without")
    first = result.rows[0]
    times = {"h2d_ms": 0.125, "compute_ms": 1.0, "d2h_ms": 0.25, "enqueue_ms": 0.5}
    timed = replace(first, measured=replace(first.measured, device_ms=times))
    page = to_markdown(replace(result, rows=(timed,)), "with")
    assert page.endswith("| onnxruntime-cpu fp32 | 1 | 0.1250 | 1.0000 | 0.2500 | 0.5000 |\n")


def test_what_makes_the_figures_doubtful_stands_at_the_head(result):
    page = to_markdown(replace(result, warnings=("runs on battery",)), "T")
    assert page.splitlines()[2] == "- **Warning: runs on battery.**"


def test_wrong_answers_and_a_race_without_a_winner_are_said(result):
    first = replace(result.rows[0], verdict="wrong", why="answers differ")
    tied = Winner(1, None, ("a fp32", "b int8"), "the rounds differ too much")
    beside = Beside(
        1, "onnxruntime-loop fp32", "onnxruntime-cpu fp32", 0.021, (0.0, 0.04), 0.05, "within what is allowed"
    )
    found = replace(result, rows=(first,), winners=(tied,), beside=(beside,))
    assert cells(found.rows)[0][-1] == "WRONG"
    page = to_markdown(found, "T")
    for line in (
        "WRONG: onnxruntime-cpu fp32, batch 1: answers differ",
        "fastest at batch 1: cannot be told: a fp32, b int8 (the rounds differ too much)",
        "onnxruntime-cpu fp32 beside onnxruntime-loop fp32, batch 1: +2.1%, 5% allowed (within what is allowed)",
    ):
        assert f"- {line}\n" in page


def test_costs_that_nobody_tells_are_dashes_with_their_reason(result):
    cost = result.rows[0].measured.cost
    assert cost.peak_rss_bytes > 2**20
    assert cost.artifact_bytes > 0
    nothing = {name for name, value in asdict(cost).items() if value is None}
    assert nothing == set(cost.absent)
    line = dict(zip(COST_COLUMNS, cost_cells(result.rows)[0], strict=True))
    assert (line["GPU MB"], line["build s"]) == ("–", "–")
    assert line["peak MB"] != "–"


def test_report_files(result, tmp_path):
    paths = write_report(result, tmp_path / "new" / "folder", "Latency of a thing")
    assert {path.name for path in paths.values()} == {"result.json", "result.md", "latency.png"}

    data = json.loads(paths["json"].read_text())
    assert data["schema_version"] == 3
    assert data["rows"][1]["reason"] == "no NVIDIA GPU: none | at all"
    assert data["rows"][1]["measured"] is None
    measured = data["rows"][0]["measured"]
    assert sum(len(each["latencies_ns"]) for each in measured["rounds"]) == measured["queries"]

    text = paths["markdown"].read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    # Pipes in cells are escaped: every line has the same number of cells.
    widths = {len(re.findall(r"(?<!\\)\|", line)) - 1 for line in table}
    assert widths == {len(COLUMNS), len(ANSWER_COLUMNS), len(COST_COLUMNS)}
    assert "\n- not run here: tensorrt fp16; tensorrt fp32: no NVIDIA GPU: none | at all\n" in text
    assert hardware_line(result.environment) in text
    assert "CPU threads per query: 1" in text
    assert "numpy" in text

    with Image.open(paths["plot"]) as image:
        width, height = image.size
        colours = image.convert("RGB").getcolors(width * height)
    assert width > height > 200
    assert (0x4C, 0x72, 0xB0) in {colour for _, colour in colours}  # onnxruntime's bars


def test_a_result_without_any_measured_row_is_still_a_report(result, tmp_path):
    rows = tuple(row for row in result.rows if row.measured is None)
    paths = write_report(replace(result, rows=rows), tmp_path, "Nothing ran")
    assert "none | at all" in paths["markdown"].read_text()


def test_a_backend_the_plot_has_no_colour_for_gets_a_bar_too(result, tmp_path):
    rows = tuple(replace(row, backend="abacus") for row in result.rows)
    with Image.open(write_report(replace(result, rows=rows), tmp_path, "Beads")["plot"]) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(image.width * image.height)}
    assert (0x93, 0x78, 0x60) in colours
    assert (0x4C, 0x72, 0xB0) not in colours


def test_the_longest_names_leave_room_for_the_bars(result, tmp_path):
    """Warnings are errors here, and matplotlib's is one where names leave no room."""
    long = "mode=max-autotune,memory_format=channels_last,autocast=bfloat16"
    rows = tuple(replace(row, variant=long) for row in result.rows)
    with Image.open(write_report(replace(result, rows=rows), tmp_path, "Long")["plot"]) as image:
        assert image.width > 2000


def test_summary_leaves_the_single_latencies_out(result):
    assert "latencies_ns" not in json.dumps(result.to_json(raw=False))
    assert "latencies_ns" in json.dumps(result.to_json())

"""CSV and the order of rows."""

import csv
import io
from dataclasses import replace

import pytest
from invented import REFERENCE, absent, result, row

from quillrt.benchmarks.columns import ranked, tables, to_csv
from quillrt.benchmarks.measured import Served, Trial
from quillrt.benchmarks.report import served_cells


@pytest.fixture
def made():
    wrong = row("litert int8", 1, 0.01, right=200, wrong=True)
    peer = replace(row("onnxruntime-loop fp32", 1, 0.2), kind="peer")
    return result(
        row(REFERENCE, 1, 1.0), row("openvino int8", 1, 0.5), wrong, peer, absent("tensorrt", 1, 'no, "none"')
    )


def test_csv_holds_every_row_unrounded(made):
    found = list(csv.DictReader(io.StringIO(to_csv({"one": made, "two": made}))))
    assert [each["result"] for each in found] == ["one"] * 5 + ["two"] * 5
    for line, each in zip(found, made.rows, strict=False):
        assert (line["row"], line["batch"], line["why"]) == (each.name, "1", each.why)
        if each.measured is None:
            assert line["median_ms"] == line["accuracy"] == ""
            continue
        assert float(line["median_ms"]) == each.measured.median_ms
        assert float(line["accuracy"]) == each.measured.accuracy.right / 2000
        assert float(line["accuracy_low"]) == each.measured.accuracy.low
        assert float(line["times_eager_fp32_high"]) == each.speedup[REFERENCE].high
    assert [each["verdict"] for each in found[:5]] == ["baseline", "faster", "WRONG", "faster", "not run"]


def test_the_best_come_first_and_behind_them_peers_and_wrong_ones(made):
    assert [each.name for each in ranked(made.rows)] == [
        "openvino int8", "eager fp32", "onnxruntime-loop fp32", "litert int8"
    ]  # fmt: skip


def test_of_rates_the_highest_comes_first(made):
    rows = []
    for rate, each in zip((50.0, 70.0), made.rows[:2], strict=True):
        metric = replace(each.measured.metric, name="rate_qps", higher_is_better=True, rounds=(rate,) * 5)
        rows.append(replace(each, measured=replace(each.measured, metric=metric)))
    assert [each.name for each in ranked(rows)] == ["openvino int8", "eager fp32"]
    assert [each.name for each in ranked(rows[::-1])] == ["openvino int8", "eager fp32"]


def test_tables_without_a_figure_are_left_out(made):
    assert list(tables(made)) == ["Latency, host memory to host memory", "Answers", "Costs"]


def test_a_missing_value_is_a_dash_and_an_interval_stands_beside_its_value(made):
    by_title = {column.title: column for columns in tables(made).values() for column in columns}
    first = made.rows[1]
    assert by_title["GPU memory, MB"].text(first) == "–"
    assert by_title["peak memory, MB"].text(first) == "50"
    assert by_title["× eager"].text(first) == "2.00"  # both rows have the same rounds: no width
    assert by_title["accuracy (95 %)"].text(first) == "99.50% (99.10% to 99.80%)"


def test_the_rate_that_was_held_stands_with_the_p99_at_that_rate():
    held = [
        Served(
            100.0,
            (
                Trial(100.0, 700, p99, held=True, completed_qps=99.0),
                Trial(200.0, 700, 50.0, held=False, completed_qps=150.0),
            ),
        )
        for p99 in (4.0, 7.0)
    ]
    none = Served(0.0, (Trial(50.0, 700, 30.0, held=False, completed_qps=40.0),))
    rows = [row(REFERENCE, 1, 1.0, served=tuple(held)), row("litert fp32", 1, 1.0, served=(none,))]
    assert [line[3:] for line in served_cells(rows)] == [("5.500", "4"), ("–", "1")]
    lines = [line.split(",") for line in to_csv({"one": result(*rows)}).splitlines()]
    assert [line[lines[0].index("rate_p99_ms")] for line in lines[1:]] == ["5.5", ""]

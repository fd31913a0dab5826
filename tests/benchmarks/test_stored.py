"""A result read back from its file: whole, or one line that says what is wrong with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from invented import REFERENCE, absent, result, row

from quillrt.benchmarks.stored import load_result
from quillrt.runtime.errors import DataError

pytest.importorskip("jsonschema", reason="needs the package jsonschema, out of the extra bench")
EXAMPLE = Path(__file__).parents[2] / "benchmarks" / "results" / "full-quillnet.json"


@pytest.fixture(scope="module")
def whole():
    device = {"h2d_ms": 0.1, "compute_ms": 0.5, "d2h_ms": 0.1, "enqueue_ms": 0.2}
    rows = row(REFERENCE, 1, 1.0), row("tensorrt fp16", 1, 0.5, device_ms=device), absent("litert int8", 1, "no LiteRT")
    return json.dumps(result(*rows).to_json())


@pytest.fixture
def plain(whole):
    return json.loads(whole)


@pytest.fixture
def written(tmp_path):
    """Write a value as JSON and return where."""

    def written(value):
        path = tmp_path / "result.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return written


def test_the_committed_example_is_read_and_written_as_it_was():
    assert json.loads(json.dumps(load_result(EXAMPLE).to_json(raw=False))) == json.loads(
        EXAMPLE.read_text(encoding="utf-8")
    )


def test_what_was_written_is_read_back(plain, written):
    assert json.loads(json.dumps(load_result(written(plain)).to_json())) == plain


def test_a_summary_has_no_single_latencies(written):
    made = result(row(REFERENCE, 1, 1.0))
    found = load_result(written(made.to_json(raw=False)))
    measured = made.rows[0].measured
    bare = replace(measured, rounds=tuple(replace(each, latencies_ns=()) for each in measured.rounds))
    assert found.rows == (replace(made.rows[0], measured=bare),)


def test_which_images_are_wrong_is_in_the_result_and_not_in_the_summary(written):
    made = result(row(REFERENCE, 1, 1.0, right=1998))
    accuracy = replace(made.rows[0].measured.accuracy, wrong=(3, 1999))
    made = replace(made, rows=(replace(made.rows[0], measured=replace(made.rows[0].measured, accuracy=accuracy)),))
    assert load_result(written(made.to_json())) == made
    assert load_result(written(made.to_json(raw=False))).rows[0].measured.accuracy.wrong is None


def test_what_is_no_file_or_no_json_is_said(tmp_path, written):
    with pytest.raises(DataError, match=r"expected a result at .*nothing.json.* quillrt bench makes one"):
        load_result(tmp_path / "nothing.json")
    for text in ("", "{", "[" * 100_000, '{"rows": NaN}', "\x00"):
        with pytest.raises(DataError, match="expected a result in JSON"):
            load_result(written(text))
    for value in ([], 3, None, "text"):
        with pytest.raises(DataError, match="schema_version 3, found None"):
            load_result(written(json.dumps(value)))


def test_a_file_without_an_end_is_not_read_to_it():
    with pytest.raises(DataError, match="larger than 268,435,456 bytes"):
        load_result(Path("/dev/zero"))


def test_what_would_steer_a_terminal_becomes_a_space(plain, written):
    plain["rows"][2]["reason"] = "\x1b[2Jno\nLiteRT"
    assert load_result(written(plain)).rows[2].reason == " [2Jno LiteRT"


def test_another_version_is_refused_and_can_be_tried(plain, written):
    path = written({**plain, "schema_version": 2})
    with pytest.raises(DataError, match="schema_version 3, found 2"):
        load_result(path)
    assert load_result(path, any_version=True).rows[0].name == REFERENCE
    del plain["rows"][0]["verdict"]
    with pytest.raises(DataError, match="'verdict' is a required property"):
        load_result(written({**plain, "schema_version": 2}), any_version=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda plain: plain["rows"][0]["measured"].update(median_ms="1"), r"result.rows\[0\].measured.median_ms"),
        (lambda plain: plain["rows"][0]["measured"]["rounds"][1].update(latencies_ns=[1, 2.5]), "latencies_ns"),
        (lambda plain: plain["rows"][0]["measured"]["rounds"][1].update(latencies_ns=[1, True]), "latencies_ns"),
        (lambda plain: plain["rows"][0]["measured"]["rounds"][1].update(latencies_ns=None), "latencies_ns"),
        (lambda plain: plain["rows"][0]["measured"].pop("rounds"), "rounds"),
        (lambda plain: plain["rows"][0].update(measured=[]), "measured"),
        (lambda plain: plain.update(rows={}), "rows"),
        (lambda plain: plain["environment"]["device"].pop("cpu"), "cpu"),
        (lambda plain: plain["environment"]["device"].update(gpus=[{}]), "name"),
        (lambda plain: plain["environment"]["device"].update(gpus=3), "environment.device.gpus"),
        (lambda plain: plain.update(baseline={"one": "eager fp32"}), "result.baseline: 'one'"),
        (lambda plain: plain["rows"][1]["measured"]["device_ms"].pop("enqueue_ms"), "enqueue_ms"),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(images=0), "found 1990 of 0 right"),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(right=2001), "found 2001 of 2000 right"),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(images=1e308), r"found 1990 of 1e\+308 right"),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(low=49), "49 is greater than the maximum of 1"),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(low=1, high=0), "end .* first, found 1 and 0 "),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(wrong=[1] * 10), "numbers of 10 wrong images"),
        (lambda plain: plain["rows"][0]["measured"]["accuracy"].update(wrong=[1]), "wrong images of .*, found 1;"),
        (lambda plain: plain["rows"].append(plain["rows"][0]), "each row once"),
        (lambda plain: plain["rows"][0]["measured"]["rounds"].pop(), "figures of the 4 rounds of .*, found 5"),
        (lambda plain: plain["rows"][0]["measured"]["rounds"][2].update(build=1), "builds 0 to 0 of .*, found 1"),
        (lambda plain: plain["rows"][0]["measured"]["rounds"][2].update(median_ms=0), "above 0 .*, found 0"),
        (lambda plain: plain["rows"][0]["measured"]["metric"].update(rounds=[1e308] * 5), r"found 1e\+308"),
        (lambda plain: plain["rows"][1].update(verdict="wrong"), "found tensorrt fp16 at batch 1"),
        (lambda plain: plain["winners"][0].update(name="litert int8"), "found litert int8 at batch 1"),
        (lambda plain: plain["winners"][0].update(name=None, tied=["nobody"]), "found nobody at batch 1"),
    ],
)
def test_what_is_damaged_is_named_in_one_line(plain, written, spoil, said):
    spoil(plain)
    with pytest.raises(DataError, match=said) as error:
        load_result(written(plain))
    assert "\n" not in str(error.value)

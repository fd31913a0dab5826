"""`quillrt report` and `quillrt compare`, on results that were never measured."""

import json

import pytest
from invented import NOISY, REFERENCE, result, row

pytest.importorskip("jsonschema", reason="needs the package jsonschema, out of the extra bench")


@pytest.fixture
def results(tmp_path):
    """Write results of two rows, the second's median given: ``results("new", 1.2)`` returns where."""

    def results(name, median_ms=1.0, **changes):
        rounds = changes.pop("rounds", None)
        second = row("litert int8", 1, median_ms, **({"rounds": rounds} if rounds else {}))
        path = tmp_path / name / "result.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**result(row(REFERENCE, 1, 2.0), second).to_json(), **changes}))
        return path

    return results


def test_a_page_is_written_and_named(quillrt, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert quillrt("report", results("old")) == (0, "", "wrote report.html\n")
    assert "<!DOCTYPE html>" in (tmp_path / "report.html").read_text()
    code, out, _ = quillrt("report", results("old"), results("new"), results("old"), "-o", "x.html", "--json", "-q")
    assert code == 0
    assert json.loads(out) == {"path": "x.html", "format": "html", "results": ["old", "new", "old (2)"]}


def test_markdown_and_csv_go_to_stdout_or_to_a_file(quillrt, results, tmp_path):
    code, out, _ = quillrt("report", results("old"), "--format", "md")
    assert code == 0
    assert "| litert int8 | 1 | 1.000 |" in out
    code, out, _ = quillrt("report", results("old"), results("new", 2.0), "--format", "csv")
    assert [line.split(",")[:3] for line in out.splitlines()[1:]] == [
        ["old", "eager fp32", "1"], ["old", "litert int8", "1"], ["new", "eager fp32", "1"], ["new", "litert int8", "1"]
    ]  # fmt: skip
    assert quillrt("report", results("old"), results("new", 2.0), "-o", tmp_path / "x.md", "-q") == (0, "", "")
    assert "| litert int8 | 1 | 1.000 | 2.000 | 2.00 |" in (tmp_path / "x.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "pdf"), "expected a format out of html, md, csv, found 'pdf'"),
        (("-o", "x.pdf"), "expected an output that ends in .html"),
        (("-o", "/dev/null/x.html"), "expected to write the file"),
    ],
)
def test_another_form_is_refused(quillrt, results, options, said):
    code, out, err = quillrt("report", results("old"), *options)
    assert (code, out) == (1, "")
    assert said in err


def test_what_is_no_result_is_one_line(quillrt, results, tmp_path):
    for verb in (("report",), ("compare", results("old"))):
        code, out, err = quillrt(*verb, tmp_path / "nothing.json")
        assert (code, out) == (1, "")
        assert err.startswith("quillrt: error: expected a result at ")
        assert err.count("\n") == 1


def test_a_result_against_itself_ends_with_0(quillrt, results):
    code, out, _ = quillrt("compare", results("old"), results("old"))
    assert code == 0
    assert "no row became worse beyond noise and 5 %" in out


def test_a_row_a_fifth_slower_ends_with_1_and_is_named(quillrt, results):
    code, out, _ = quillrt("compare", results("old"), results("new", 1.2))
    assert code == 1
    assert "became worse: litert int8, batch 1" in out
    assert "eager fp32, batch 1" not in out
    assert quillrt("compare", results("old"), results("new", 1.2), "--threshold", 25)[0] == 0


def test_a_noisy_result_ends_with_0(quillrt, results):
    code, out, _ = quillrt("compare", results("old"), results("new", 1.2, rounds=NOISY))
    assert code == 0
    assert "too noisy" in out

    assert "of 1 of 2 rows nothing can be said" in out


def test_a_row_that_does_not_run_any_more_ends_with_1_unless_it_may(quillrt, results):
    gone = results("gone")
    told = json.loads(gone.read_text())
    told["rows"][1] |= {"measured": None, "reason": "boom"}
    gone.write_text(json.dumps(told))
    code, out, _ = quillrt("compare", results("old"), gone)
    assert code == 1
    assert "missing: litert int8, batch 1: boom" in out
    assert "no row became worse" not in out
    assert quillrt("compare", results("old"), gone, "--allow-missing")[0] == 0
    code, out, err = quillrt("compare", gone, gone, "--threshold", "nan", "--json")
    assert (code, out) == (1, "")
    assert "expected a threshold of 0 % or more, found nan" in err


def test_json_has_every_figure(quillrt, results):
    code, out, _ = quillrt("compare", results("old"), results("new", 1.2), "--json")
    found = json.loads(out)
    assert code == 1
    assert found["regressions"] == ["litert int8, batch 1"]
    assert [each["verdict"] for each in found["rows"]] == ["unchanged", "slower"]
    assert found["rows"][1]["ratio"] == pytest.approx(1.2, rel=1e-3)
    bounded = "a result does not say which images it has"
    accuracy = {"images": 2000, "points": 0.0, "p_low": 1.0, "p_high": 1.0, "bounded": bounded}
    assert found["rows"][1]["accuracy"] == accuracy
    assert f"McNemar's p has bounds alone: {bounded}" in quillrt("compare", results("old"), results("new"))[1]
    assert (found["threshold_percent"], found["anyway"], found["differences"]) == (5.0, [], [])


def test_other_machines_are_refused_unless_anyway(quillrt, results):
    old = results("old")
    environment = json.loads(old.read_text())["environment"]
    environment["device"]["cpu"] = "Another CPU"
    new = results("new", 1.0, environment=environment)
    code, out, err = quillrt("compare", old, new)
    assert (code, out) == (1, "")
    assert "found processor: Some CPU → Another CPU; measure both in one place, or give --anyway" in err
    code, out, _ = quillrt("compare", old, new, "--anyway")
    assert code == 0
    assert "compared anyway: processor: Some CPU → Another CPU" in out


def test_another_version_of_the_form_is_refused_unless_anyway(quillrt, results):
    code, _, err = quillrt("compare", results("old"), results("new", schema_version=2))
    assert code == 1
    assert "schema_version 3, found 2" in err
    assert quillrt("compare", results("old"), results("new", schema_version=2), "--anyway")[0] == 0

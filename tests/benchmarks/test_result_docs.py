"""The documents hold what the committed results say, and the tables say it of planted ones."""

import json
from pathlib import Path

import pytest
from invented import REFERENCE, result, row

from quillrt.benchmarks import result_docs
from quillrt.runtime.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", result_docs.DOCUMENTS, ids=str)
def test_the_documents_are_those_of_the_committed_results(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert "<!-- bench:" in text
    assert result_docs.filled(text, ROOT / result_docs.RESULTS) == text, "run `make bench-docs`"


@pytest.fixture
def folder(tmp_path):
    made = result(
        row(REFERENCE, 1, 0.5), row("litert int8", 1, 0.1), row("openvino int8", 1, 0.01, wrong=True),
        row(REFERENCE, 64, 40.0), row("litert int8", 64, 4.0),
    )  # fmt: skip
    for name in ("cpu-cnn", "full-quillnet"):
        (tmp_path / f"{name}.json").write_text(json.dumps(made.to_json(raw=False)))
    return tmp_path


def test_the_table_holds_medians_and_ratios_and_marks_the_fastest_that_is_right(folder):
    lines = result_docs.readme_table(folder).splitlines()
    assert lines[0].startswith("| backend | `cnn`, batch 1 | × eager | batch 64 | × eager | `quillnet`, batch 1 |")
    cells = {line.split(" | ")[0]: line for line in lines[2:]}
    assert cells["| PyTorch eager FP32"] == "| PyTorch eager FP32" + 2 * " | 0.500 | 1.00 | 40.0 | 1.00" + " |"
    assert cells["| LiteRT INT8"] == "| LiteRT INT8" + 2 * " | **0.100** | **5.00** | **4.00** | **10.00**" + " |"
    assert cells["| OpenVINO INT8"] == "| OpenVINO INT8" + 2 * " | WRONG | – | – | –" + " |"
    assert "no NVIDIA GPU" in lines[-1]


def test_every_result_stands_whole_under_its_name(folder):
    page = result_docs.all_results(folder)
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "### `cpu-cnn.json`",
        "### `full-quillnet.json`",
    ]
    assert page.count("WRONG: openvino int8, batch 1: answers differ") == 2


def test_what_stands_outside_of_markers_is_kept_and_a_bad_marker_is_named(folder):
    document = "before\n<!-- bench:scenarios -->\nformer\n<!-- /bench:scenarios -->\nafter\n"
    made = result_docs.filled(document, folder)
    assert made.startswith("before\n<!-- bench:scenarios -->\n\n| scenario |")
    assert made.endswith("\n<!-- /bench:scenarios -->\nafter\n")
    assert "former" not in made
    assert result_docs.filled(made, folder) == made
    for bad in ("<!-- bench:nothing -->\n<!-- /bench:nothing -->", "<!-- bench:table -->"):
        with pytest.raises(DataError, match="expected a marker out of table, scenarios, results"):
            result_docs.filled(bad, folder)


def test_the_script_writes_the_documents(folder, tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    found = script(result_docs.main)
    assert found.exit_code == 1
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results").symlink_to(folder)
    for path in result_docs.DOCUMENTS:
        path.write_text("<!-- bench:table -->\n<!-- /bench:table -->\n")
    found = script(result_docs.main)
    assert (found.exit_code, found.stdout) == (
        0,
        "wrote README.md\nwrote README.zh-CN.md\nwrote docs/benchmarks.md\n",
    )
    for readme in ("README.md", "README.zh-CN.md"):
        assert "**0.100**" in Path(readme).read_text(encoding="utf-8")

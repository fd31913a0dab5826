"""The page: it parses, fetches nothing, holds the result's figures, and puts nothing wrong or noisy first."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from invented import NOISY, REFERENCE, absent, result, row

from quillrt.benchmarks.html_report import to_html
from quillrt.benchmarks.html_report_frame import numbered
from quillrt.benchmarks.html_report_svg import Box
from quillrt.benchmarks.stored import load_result

EXAMPLE = Path(__file__).parents[2] / "benchmarks" / "results" / "full-quillnet.json"
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """The elements of a page as (name, attributes, text); fails where an end tag is missing or wrong."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} stands twice"
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_endtag(self, tag):
        name, _ = self._open.pop()
        assert name == tag, f"expected </{name}>, found </{tag}>"

    def handle_data(self, data):
        for _, number in self._open:
            self.elements[number][2] += data

    def all(self, tag, class_=None):
        return [
            e for e in self.elements if e[0] == tag and (class_ is None or class_ in (e[1].get("class") or "").split())
        ]

    def texts(self, tag, class_=None):
        return [" ".join(text.split()) for _, _, text in self.all(tag, class_)]


@pytest.fixture(scope="module")
def rows():
    found = []
    for batch in (1, 64):
        found += [
            row(REFERENCE, batch, 1.0 * batch),
            row("onnxruntime-cpu fp32", batch, 0.5 * batch),
            row("onnxruntime-cpu int8", batch, 0.3 * batch, right=1988),
            row("torch-compile fp32", batch, 0.9 * batch, rounds=NOISY),
            row("litert int8", batch, 0.01 * batch, right=200, wrong=True),
            replace(row("onnxruntime-loop fp32", batch, 0.2 * batch), kind="peer"),
            absent("tensorrt fp16", batch, "no NVIDIA GPU: <none> & no driver"),
        ]
    times = {"h2d_ms": 0.0125, "compute_ms": 0.5, "d2h_ms": 0.0625, "enqueue_ms": 0.45}
    return [*found, row("onnxruntime-cuda fp16", 1, 0.6, device_ms=times)]


@pytest.fixture(scope="module")
def made(rows):
    return result(*rows, warnings=("runs on battery: clocks may be held down; plug it in",))


@pytest.fixture(scope="module")
def html(made):
    return to_html({"one": made})


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def table(page, title):
    """The body of a table: per line the cells' (text, value)."""
    rows, inside = [], False
    for name, attributes, text in page.elements:
        if name == "caption":
            inside = text == title
        elif name == "tr" and inside:
            rows.append([])
        elif name in ("td", "th") and inside:
            rows[-1].append((" ".join(text.split()), attributes.get("data-value")))
    return rows


def test_the_page_parses_and_is_a_page(html, page):
    assert html.startswith("<!DOCTYPE html>")
    assert page.texts("title")[0] == page.texts("h1")[0] == "Benchmark of digits.quill"
    assert page.all("html")[0][1]["lang"] == "en"
    assert len(page.all("meta")) == 4


def test_the_page_fetches_nothing(html, page):
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(|XMLHttp|<iframe|<img|<object|<base", html)
    assert [each[1]["href"] for each in page.all("link")] == ["data:,"]
    assert not any("src" in attributes or "style" in attributes for _, attributes, _ in page.elements)
    assert not any(name.startswith("on") for _, attributes, _ in page.elements for name in attributes)


def test_its_policy_allows_its_own_style_and_script_alone(html, page):
    (policy,) = [
        each[1]["content"] for each in page.all("meta") if each[1].get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_tables_hold_the_figures_of_the_json(made, page):
    plain = {(each["name"], each["batch"]): each for each in made.to_json()["rows"] if each["measured"]}
    lines = table(page, "Latency, host memory to host memory")
    titles = [text for text, _ in lines[0]]
    assert titles[:7] == ["row", "median, ms", "batch", "verdict", "p90, ms", "p99, ms", "images/s"]
    assert {(line[0][0], int(line[2][1])) for line in lines[1:]} == set(plain)
    for line in lines[1:]:
        each = plain[line[0][0], int(line[2][1])]
        measured = each["measured"]
        values = dict(zip(titles, (value for _, value in line), strict=True))
        assert float(values["median, ms"]) == measured["median_ms"]
        assert float(values["p90, ms"]) == measured["percentiles_ms"]["p90"]
        assert float(values["images/s"]) == measured["images_per_second"]
        assert float(values["× eager"]) == each["speedup"][REFERENCE]["ratio"]
        assert int(values["queries"]) == measured["queries"]
        assert line[1][0] == f"{measured['median_ms']:.3f}"
    answers = {(line[0][0], int(line[2][1])): line for line in table(page, "Answers")[1:]}
    assert answers["onnxruntime-cpu int8", 1][1] == ("99.40% (99.00% to 99.70%)", "0.994")
    (times,) = table(page, "Where the time goes, by device events")[1:2]
    assert [float(value) for _, value in (times[1], *times[4:])] == [0.0125, 0.5, 0.0625, 0.45]


def test_offline_the_rate_comes_first(made):
    page = Page(to_html({"one": replace(made, settings={**made.settings, "scenario": "offline"})}))
    titles = [text for text, _ in table(page, "Latency, host memory to host memory")[0]]
    assert titles[:5] == ["row", "images/s", "batch", "verdict", "median, ms"]


def test_rows_of_one_batch_size_have_no_line_over_batch_sizes(made):
    single = replace(made, rows=tuple(each for each in made.rows if each.batch == 1))
    assert "Throughput against batch size" not in Page(to_html({"one": single})).texts("h2")
    lone = replace(made, rows=tuple(e for e in made.rows if e.batch == 1 or e.name == REFERENCE))
    drawn = [attributes["d"] for _, attributes, _ in Page(to_html({"one": lone})).all("path", "series")]
    assert len(drawn) == 2  # the reference alone, on a desktop and on a phone
    assert all("L" in path for path in drawn)


def test_the_numbers_of_a_plot_are_those_of_its_list(page):
    """Each stands once at its point, once before its row's name, and none lies on the axis' title."""
    first, second = page.all("svg")[:2]
    assert first[1]["aria-label"] == "accuracy against latency"
    plot = page.elements[page.elements.index(first) : page.elements.index(second)]
    texts = [(attributes, said) for name, attributes, said in plot if name == "text"]
    names = [said for attributes, said in texts if attributes["class"] == "label"]
    numbers = [n for each, said in texts if each["class"] == "label number" for n in said.split(", ")]
    assert "too noisy: torch-compile fp32" in names
    assert sorted(numbers) == sorted([str(1 + n) for n in range(len(names))] * 2)
    title = next(float(attributes["y"]) for attributes, said in texts if said == "accuracy, %")
    assert all(float(each["y"]) - 12 > title - 1 for each, _ in texts if each["class"] == "label number")


def test_one_alone_has_no_plural(made):
    one = replace(made, settings={**made.settings, "threads": 1, "builds": 1})
    page = Page(to_html({"one": one}))
    assert any("1 CPU thread a query" in text for text in page.texts("p", "soft"))
    (measured,) = [text for text in page.texts("li") if text.startswith("Measured: ")]
    assert " 5 rounds in turn over 1 build, " in measured
    (images,) = [text for text in page.texts("li") if text.startswith("Images: ")]
    assert f"queries rotate through {one.rotation.images:,} images, " in images


def test_marks_that_touch_share_the_text_of_their_numbers():
    svg = "".join(numbered([(50, 50), (200, 50), (53, 52)], Box(0, 0, 300, 100)))
    assert re.findall(r">([^<]+)</text>", svg) == ["1, 3", "2"]


def test_a_wrong_row_never_leads(made, page):
    """It is ten times as fast as all others."""
    assert {each.name for each in made.winners} == {"onnxruntime-cpu int8"}
    for title in ("Latency, host memory to host memory", "Answers", "Costs"):
        for batch in ("1", "64"):
            names = [line[0][0] for line in table(page, title)[1:] if line[2][1] == batch]
            assert names[0] == "onnxruntime-cpu int8"
            assert names[-1] == "litert int8"
    assert page.texts("strong").count("onnxruntime-cpu int8") == 2
    assert not any("Fastest" in text and "litert" in text for text in page.texts("li"))
    assert page.texts("span", "wrong") == ["WRONG"] * len(page.texts("span", "wrong"))
    assert any(text.startswith("WRONG: litert int8, batch 1: answers differ") for text in page.texts("li"))
    labels = page.texts("text", "label")
    assert not any(text.startswith("litert int8") for text in labels)
    assert any(text.startswith("WRONG: litert int8") for text in labels)


def test_a_noisy_row_is_marked(page):
    lines = {(line[0][0], line[2][1]): line for line in table(page, "Latency, host memory to host memory")[1:]}
    assert lines["torch-compile fp32", "1"][3][0] == "too noisy"
    assert any(
        "too noisy to be judged against eager fp32: batch 1: torch-compile fp32; batch 64: " in t
        for t in page.texts("li")
    )
    assert "too noisy: torch-compile fp32" in page.texts("text", "label")


def test_the_head_warns_of_the_machine_before_any_figure(html, page):
    assert "Warning: runs on battery: clocks may be held down; plug it in" in page.texts("li")
    assert html.index("runs on battery") < html.index("<svg")


def test_what_could_not_run_has_its_reason(page):
    assert "not run here: tensorrt fp16: no NVIDIA GPU: <none> & no driver" in page.texts("li")


def test_names_are_text_and_never_markup():
    evil = "<script>alert(1)</script>\"'&"
    name = f"eager fp32 {evil}"
    spoilt = result(
        row(REFERENCE, 1, 1.0), row(name, 1, 0.5), model={"name": evil, "sha256": "0" * 64}, warnings=(evil,)
    )
    page = Page(to_html({evil: spoilt, "other": spoilt}))
    assert len(page.all("script")) == 1
    assert name in [line[0][0] for line in table(page, "Latency, host memory to host memory")]


def test_the_commands_repeat_the_measurement(page):
    (commands,) = page.texts("pre")
    assert commands.startswith(f"git checkout {'a' * 40} pip install . numpy==2.4.6 quillrt bench digits.quill ")
    for option in ("--checkpoint CHECKPOINT", "--batch 1 --batch 64", "--rounds 5", "--dataset mnist --part test"):
        assert option in commands
    assert "--peer onnxruntime-loop" in commands


def test_several_results_stand_side_by_side(made):
    other = result(*(row(each.name, each.batch, 2 * each.measured.median_ms) for each in made.rows if each.measured))
    page = Page(to_html({"before": made, "after": other}))
    lines = table(page, "Medians side by side")
    assert [text for text, _ in lines[0]] == ["row", "batch", "before, median ms", "after, median ms", "÷ before"]
    for line in lines[1:]:
        assert float(line[4][1]) == pytest.approx(2, rel=0.02)
    assert [each for each in page.texts("figcaption") if each.startswith("batch 1, ")][:2] == [
        "batch 1, before",
        "batch 1, after",
    ]
    assert set(page.texts("h2")) >= {"Tables: before", "Tables: after"}


def test_pictures_are_drawn_for_a_desktop_and_a_phone_and_keep_inside(page):
    assert [len(page.all("svg", kind)) for kind in ("wide", "narrow")] == [6, 6]
    edges = None
    for name, attributes, text in page.elements:
        if name == "svg":
            edges = [float(each) for each in attributes["viewbox"].split()]
            assert attributes["role"] == "img"
        elif name == "text":
            wide = 0.5 * 12 * len(text)
            start = float(attributes["x"]) - {"end": wide, "middle": wide / 2}.get(attributes.get("text-anchor"), 0)
            assert start >= -2
            assert start + wide <= edges[2] + 6
            assert 0 <= float(attributes["y"]) <= edges[3]


def test_a_result_of_nothing_is_a_page(made):
    bare = result(absent("tensorrt fp16", 1, "no GPU"))
    page = Page(to_html({"one": bare}))
    assert not page.all("svg")
    assert "Fastest at batch 1: none, for no row ran and answered right." in page.texts("li")


def test_a_summary_without_single_latencies_is_a_page(tmp_path, made):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(made.to_json(raw=False)))
    page = Page(to_html({"one": load_result(path)}))
    assert "How latencies spread" not in page.texts("h2")
    assert "Throughput against batch size" in page.texts("h2")


def test_the_committed_example_is_a_page():
    page = Page(to_html({"example": load_result(EXAMPLE)}))
    assert any(text.startswith("Warning: busy neighbours") for text in page.texts("li"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_heads_sort_and_what_is_wrong_stays_below(tmp_path, html):
    """The policy is taken out for a script of the test's own, which clicks and leaves the order in the title."""
    test = """
      const table = document.querySelectorAll("table")[0], buttons = table.querySelectorAll("th button");
      const name = row => row.cells[0].textContent + " " + row.cells[2].textContent;
      const names = () => [...table.tBodies[0].rows].map(name);
      const found = [];
      for (const at of [1, 1, 0]) { buttons[at].focus(); buttons[at].click(); found.push(names()); }
      found.push([...table.tHead.rows[0].cells].map(cell => cell.getAttribute("aria-sort")));
      document.title = JSON.stringify(found);
    """
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    path = tmp_path / "page.html"
    path.write_text(open_page.replace("</body>", f"<script>{test}</script></body>"), encoding="utf-8")
    run = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom",
         path.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    up, down, by_name, sorts = json.loads(Page(run.stdout).texts("title")[0])
    wrong = {"litert int8 1", "litert int8 64"}
    for order in (up, down, by_name):
        assert set(order[-2:]) == wrong
    assert up[0] == "onnxruntime-loop fp32 1"
    assert down[0] == "eager fp32 64"
    names = [each.rsplit(" ", 1)[0] for each in by_name[:-2]]
    assert names == sorted(names)
    assert sorts[0] == "ascending"
    assert set(sorts[1:]) == {None}


def test_figures_of_nought_are_drawn_as_well(made):
    """A clock may be too coarse, and a rate of arrivals may never be held."""
    still = dict.fromkeys(("h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms"), 0.0)
    rows = []
    for each in made.rows:
        if each.measured:
            rounds = tuple(replace(one, latencies_ns=(0,) * 9, median_ms=0.0) for one in each.measured.rounds)
            spoilt = replace(each.measured, median_ms=0.0, images_per_second=0.0, device_ms=still, rounds=rounds)
            rows.append(replace(each, measured=spoilt))
    page = Page(to_html({"one": replace(made, rows=tuple(rows))}))
    assert not any("nan" in str(value) or "inf" in str(value) for name, attributes, _ in page.elements
                   for value in attributes.values() if name in ("path", "line", "text", "rect"))  # fmt: skip

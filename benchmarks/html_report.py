"""Results as one page of HTML with style, script and pictures inside: nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template

from quillrt.runtime.counting import counted

from .doubting import doubts
from .environment import hardware_line
from .html_report_charts import charts
from .html_report_machine import facts
from .html_report_svg import tag
from .html_report_table import medians_table, result_tables
from .repeating import commands
from .report import conditions, notes, outcomes
from .results import Result, Winner


def to_html(results: Mapping[str, Result]) -> str:
    """Return the page; several results, by name, stand side by side."""
    models = dict.fromkeys(each.model.get("name", "a GPU check's model") for each in results.values())
    title = f"Benchmark of {', '.join(models)}"
    several = len(results) > 1
    sections = [
        tag("div", "".join(_run(name if several else None, each) for name, each in results.items()), class_="runs"),
        *(
            _section(each.title, each.says, tag("div", "".join(each.figures), class_="figures"))
            for each in charts(results)
        ),
        _section("Side by side", "", medians_table(results)) if several else "",
        *(_details(f": {name}" if several else "", each) for name, each in results.items()),
    ]
    return _page(title, tag("main", tag("h1", escape(title)) + "\n".join(sections)))


def _run(name: str | None, result: Result) -> str:
    """Return the head of a result: what makes it doubtful, what is wrong, who is the fastest, on what machine."""
    settings, environment = result.settings, result.environment
    about = f"{settings['scenario']}, {counted(settings['threads'], 'CPU thread')} a query, {environment['time']}"
    wrong = [line for line in notes(result.rows) if line.startswith("WRONG: ")]
    return tag(
        "section",
        (tag("h2", escape(name)) if name else "")
        + tag("p", escape(hardware_line(environment)))
        + tag("p", escape(about), class_="soft")
        + _list("doubts", (_marked("Warning: ", line) for line in doubts(result)))
        + _list("faults", (_marked("WRONG: ", line.removeprefix("WRONG: ")) for line in wrong))
        + _list("winners", map(_won, result.winners)),
        class_="run",
    )


def _won(found: Winner) -> str:
    if found.name:
        return f"Fastest at batch {found.batch}: {tag('strong', escape(found.name))}, {escape(found.why)}."
    who = f"cannot be told between {', '.join(found.tied)}" if found.tied else "none"
    return escape(f"Fastest at batch {found.batch}: {who}, for {found.why}.")


def _details(whose: str, result: Result) -> str:
    """Return what stands below the pictures: tables, reasons, machine, commands."""
    reasons = [line for line in notes(result.rows) if not line.startswith("WRONG: ")]
    beside = outcomes(result)[len(result.winners) :]
    parts = [
        _section(
            f"Tables{whose}",
            f"The best rows come first; a column's head sorts. Verdicts are against {_baselines(result)}; "
            "peers, other tools for the same model, never win.",
            result_tables(result),
        ),
        _section(f"Beside others' tools{whose}", "", _list("", map(escape, beside))) if beside else "",
        _section(f"What could not run, and why{whose}", "", _list("", map(escape, reasons))) if reasons else "",
        _section(f"How it was measured{whose}", "", _list("", map(escape, conditions(result)))),
        _section(
            f"The machine{whose}",
            "",
            tag("dl", "".join(tag("dt", escape(k)) + tag("dd", escape(v)) for k, v in facts(result).items())),
        ),
        _section(
            f"To measure it again{whose}",
            "In a checkout of quillrt, in a virtual environment; capitals stand for what is yours. "
            f"The sha256 of the model's manifest: {result.model.get('sha256', 'not told')}.",
            tag("pre", escape("\n".join(commands(result))), tabindex=0),
        ),
    ]
    return "".join(parts)


def _baselines(result: Result) -> str:
    return " and ".join(dict.fromkeys(result.baseline.values())) or "no row, for none ran"


def _section(title: str, says: str, content: str) -> str:
    said = tag("p", escape(says), class_="soft") if says else ""
    return tag("section", tag("h2", escape(title)) + said + content) + "\n"


def _list(kind: str, lines: Iterable[str]) -> str:
    """Return a list of lines in markup, nothing of none."""
    items = "".join(tag("li", line) for line in lines)
    return tag("ul", items, class_=kind or None) if items else ""


def _marked(word: str, said: str) -> str:
    return tag("strong", escape(word)) + escape(said)


def _page(title: str, content: str) -> str:
    """Return the whole page; its policy allows its own style and script, by their hashes, and nothing else at all."""
    template, style, script = (
        (files("quillrt.benchmarks") / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_hash(style)}'",
            f"script-src 'sha256-{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return Template(template).substitute(
        policy=policy, title=escape(title), style=style, content=content, script=script
    )


def _hash(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()

"""The Chinese README says what the English one says, as far as can be compared: headings, commands, figures, links."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")


def lines_of(name):
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def is_code(line):
    return line.startswith("    ")  # the READMEs have indented blocks only, and no lists with paragraphs


def headings(lines):
    return [found.groups() for line in lines if (found := re.fullmatch(r"(#+) (.+)", line))]


def commands(lines):
    return [re.sub(r"\s+#.*", "", line) for line in lines if is_code(line)]


def figures(lines):
    """Return for each section, its heading included, how often each number stands in it."""
    sections = [Counter()]
    for line in lines:
        if re.match("#+ ", line):
            sections.append(Counter())
        sections[-1].update(re.findall(r"[−-]?\d+(?:[.,]\d+)*", line))
    return sections


def links(lines):
    """Return the targets of links and images, in their order."""
    return re.findall(r"\]\(([^)\s]+)\)", "\n".join(line for line in lines if not is_code(line)))


def anchors(lines):
    """Return the ids that GitHub gives to headings: in small letters, without punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(lines)}


@pytest.fixture(scope="module")
def both():
    return [lines_of(name) for name in READMES]


def test_the_headings_have_the_same_levels_in_the_same_order(both):
    english, chinese = ([level for level, _ in headings(lines)] for lines in both)

    assert len(english) > 10
    assert english == chinese


def test_the_commands_are_the_same_in_the_same_order(both):
    english, chinese = map(commands, both)

    assert len(english) > 40
    assert english == chinese


def test_each_section_holds_the_same_numbers(both):
    english, chinese = map(figures, both)

    assert sum(map(Counter.total, english)) > 500
    differ = {
        (title, "only in English" if left is first else "only in Chinese"): dict(left - right)
        for (_, title), first, second in zip([("", ""), *headings(both[0])], english, chinese, strict=True)
        for left, right in ((first, second), (second, first))
        if left - right
    }
    assert not differ


@pytest.mark.parametrize("name", READMES)
def test_links_and_images_lead_to_files_and_headings_that_exist(name):
    found = links(lines_of(name))

    assert len(found) > 10
    for link in found:
        path, _, anchor = link.partition("#")
        target = path or name
        assert (ROOT / target).is_file(), link
        assert not anchor or anchor in anchors(lines_of(target)), link


def test_both_link_to_the_same_files_and_to_each_other(both):
    english, chinese = ([link for link in links(lines) if not link.startswith("#")] for lines in both)

    assert english[0] == READMES[1]
    assert chinese[0] == READMES[0]
    assert english[1:] == chinese[1:]

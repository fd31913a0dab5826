"""JetPack's releases: what each brings, and that the page says the same."""

from pathlib import Path

import pytest

from quillrt.runtime.jetpack import RELEASES, jetpack_of, same_release, without_dla

PAGE = Path(__file__).parents[2] / "docs" / "jetson.md"


@pytest.mark.parametrize(
    ("l4t", "version", "tensorrt"),
    [
        ("35.4.1", "5.1.2", "8.5.2"),  # a Jetson Orin NX of its day says so
        ("36.3.0", "6.0", "8.6.2"),
        ("36.4.3", "6.2", "10.3.0"),
        ("38.4.0", "7.1", "10.13.3"),
        ("39.2.1", "7.2.1", "10.16.2"),
    ],
)
def test_a_release_is_found_by_either_of_its_versions(l4t, version, tensorrt):
    found = jetpack_of(l4t, None)
    assert (found.version, found.tensorrt) == (version, tensorrt)
    assert jetpack_of(None, version) == found


def test_a_release_that_is_not_known_is_not_guessed():
    assert jetpack_of("39.9.0", None) is None
    assert jetpack_of(None, "7.2.2") is None
    assert jetpack_of("36.4.9", "6.2.1").tensorrt == "10.3.0"


def test_the_page_has_every_release():
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in PAGE.read_text(encoding="utf-8").splitlines()
    ]
    told = {
        (l4t.strip(), row[0], *row[2:5])
        for row in rows
        if len(row) == 6 and row[1][:1].isdigit()
        for l4t in row[1].split(",")
    }
    assert told == {(r.l4t, r.version, r.cuda, r.tensorrt, r.python) for r in RELEASES}


@pytest.mark.parametrize(
    ("version", "without"),
    [
        ("10.3.0", False),
        ("10.7.0.23", False),
        ("10.13.3.9", True),
        ("10.16.2", True),
        ("11.4.0", True),
        ("11.4.1", False),
    ],
)
def test_the_versions_that_leave_dla_alone(version, without):
    assert without_dla(version) is without


def test_three_numbers_make_a_release():
    assert same_release("10.3.0", "10.3.0.30")
    assert not same_release("10.3.0", "10.13.3.9")

import json

import numpy as np
import pytest

from quillrt.benchmarks.bulk import Rate, Round, main, table, write_pngs
from quillrt.runtime.images import find_images, read_image


def test_the_share_is_of_the_slower_part():
    rounds = [
        Round(Rate(4000, 250), Rate(2000, 300), Rate(1500, 600)),
        Round(Rate(1000, 270), Rate(2000, 300), Rate(900, 610)),
        Round(Rate(2000, 260), Rate(2000, 300), Rate(1000, 620)),
    ]

    assert [each.share for each in rounds] == [0.75, 0.9, 0.5]
    assert table(rounds).splitlines()[2:] == [
        "| reading | 2,000 | 1,000 | 4,000 | 260 |",
        "| inference | 2,000 | 2,000 | 2,000 | 300 |",
        "| whole | 1,000 | 900 | 1,500 | 610 |",
        "| whole over its slower part | 0.75 | 0.50 | 0.90 | |",
    ]


def test_the_files_are_the_images_in_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)

    write_pngs(tmp_path, images, 1002)

    files = list(find_images([tmp_path]))
    assert len(files) == 1002
    for number in (0, 1, 2, 3, 999, 1000, 1001):
        np.testing.assert_array_equal(read_image(files[number]), images[number % 3])


def test_it_prints_a_table_and_json_of_what_was_measured(quadrants_bundle, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("sklearn")

    main(quadrants_bundle, "digits", None, 100, 2, 1, 1, 32)

    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert lines[-2].startswith("| whole over its slower part | ")
    assert (found["settings"]["images"], found["settings"]["workers"], len(found["rounds"])) == (100, 1, 2)
    for part in ("reading", "inference", "whole"):
        assert found["rounds"][0][part]["images_per_second"] > 0
    assert found["environment"]["packages"]["numpy"] == np.__version__

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.predict import Prediction
from quillrt.runtime.row_text import Csv, JsonLines
from quillrt.runtime.rows import COLUMNS, Choices, answered, unreadable

# A file's name is any bytes but NUL and /, as os.fsdecode gives them.
NAMES = st.binary(min_size=1).map(lambda name: name.replace(b"\0", b"0").decode("utf-8", "backslashreplace"))
LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TOPS = st.lists(st.tuples(LABELS, st.floats(0, 1)), min_size=1, max_size=3).map(tuple)
GOOD = st.builds(answered, st.builds(Prediction, NAMES, TOPS, st.booleans()), st.just(Choices(3, 0.5)))
BAD = st.builds(unreadable, NAMES, NAMES.map(lambda name: f"x {name}"))
ROWS = st.lists(GOOD | BAD, max_size=5)
FORMATS = pytest.mark.parametrize("form", [JsonLines(), Csv()], ids=["jsonl", "csv"])


@FORMATS
@given(rows=ROWS)
def test_what_is_written_reads_back_the_same(form, rows):
    text = form.encode(rows)

    assert [form.decode(record) for record in form.records(io.BytesIO(text))] == rows


@FORMATS
@given(rows=ROWS, data=st.data())
def test_of_a_torn_text_the_whole_rows_are_found(form, rows, data):
    ends = [len(form.encode(rows[:count])) for count in range(len(rows) + 1)]
    cut = data.draw(st.integers(0, ends[-1]))

    found = list(form.records(io.BytesIO(form.encode(rows)[:cut])))

    assert sum(map(len, found)) == max(end for end in ends if end <= cut)
    assert len(found) == sum(0 < end <= cut for end in ends)


@FORMATS
def test_a_row_of_very_many_labels_reads_back_the_same(form):
    prediction = Prediction("a.png", tuple((f"label {n}", 0.0001) for n in range(10_000)))
    row = answered(prediction, Choices(10_000))
    before = csv.field_size_limit()

    assert len(form.encode([row])) > before
    assert form.decode(form.encode([row])) == row
    assert csv.field_size_limit() == before


@given(ROWS)
def test_other_programs_read_the_csv(rows):
    text = Csv.header + Csv().encode(rows)

    found = list(csv.DictReader(io.StringIO(text.decode(), newline="")))

    assert [row["image"] for row in found] == [row["image"] for row in rows]
    assert all(tuple(row) == COLUMNS for row in found)
    assert [json.loads(row["top"]) for row in found] == [row["top"] for row in rows]


@FORMATS
@pytest.mark.parametrize("record", [b"\n", b"7\n", b'{"image": "a.png"}\n', b"a,b\n", b"a\rb,c\n"])
def test_what_is_no_row_is_refused(form, record):
    with pytest.raises((ValueError, KeyError)):
        form.decode(record)

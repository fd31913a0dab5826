import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quillrt.runtime import strict_json
from quillrt.runtime.strict_json import read_json, texts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"{'a': 1}", "Expecting property name"),
        (b"[1,]", "Expecting value|Illegal trailing comma"),
        (b"\xff", "can't decode byte"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'"\n"', "Invalid control character"),
        (b"[NaN]", "expected finite numbers, found NaN"),
        (b"[Infinity]", "found Infinity"),
        (b"[-Infinity]", "found -Infinity"),
        (b"[1e999]", "expected finite numbers, found 1e999"),
        (b"[-" + b"9" * 400 + b".5]", "expected finite numbers, found -9999"),
        (b"9" * 20, "expected whole numbers of 19 digits at most, found one of 20"),
        (b"-" + b"9" * 10**6, "19 digits at most, found one of"),
        (b"[" * 40 + b"]" * 40, "expected 32 levels at most, found more"),
        (b"[" * 10**6, "expected 32 levels at most, found more"),
        (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "expected 32 levels at most, found more"),
        (b'{"a": 1, "a": 2}', "expected each name once"),
        (b'["\\ud800"]', r"half a character in '\\ud800'"),
        (b'{"\\udfff": 1}', r"half a character in '\\udfff'"),
    ],
)
def test_what_is_no_plain_json_is_refused_in_one_line(data, message):
    with pytest.raises(ValueError, match=message) as error:
        read_json(data)
    assert len(str(error.value)) < 200
    assert str(error.value).isprintable()


def test_more_than_fits_into_memory_is_not_even_read(monkeypatch):
    monkeypatch.setattr(strict_json, "MOST_BYTES", 4)

    assert read_json(b"[{}]") == [{}]
    assert read_json(b"[{} ]", 5) == [{}]
    with pytest.raises(ValueError, match="expected 4 bytes of JSON at most, found 5"):
        read_json(b"[{} ]")


def test_a_whole_character_outside_of_16_bits_is_text():
    assert read_json(b'["\\ud83d\\ude00", "\xf0\x9f\x98\x80"]') == ["😀", "😀"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e300, 1e300) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=10,
)


@settings(derandomize=True)
@given(PLAIN)
def test_plain_json_is_what_json_reads(value):
    assert read_json(json.dumps(value).encode()) == value


@settings(derandomize=True)
@given(st.binary(max_size=40) | st.text(alphabet='[]{}",:.0123456789eE+-\\unfalsetrue ', max_size=40).map(str.encode))
def test_anything_is_read_or_refused(data):
    try:
        value = read_json(data)
    except ValueError:
        return
    assert value == json.loads(data)


def test_every_text_is_told():
    assert sorted(texts({"a": ["b", {"c": "d"}, 1], "e": None})) == ["a", "b", "c", "d", "e"]

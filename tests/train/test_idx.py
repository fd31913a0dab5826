import gzip
import tracemalloc

import numpy as np
import pytest

from quillrt.runtime.errors import DataError
from quillrt.train.idx import read_idx


def test_header_written_by_hand(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(b"\x00\x00\x08\x03" + b"\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x03" + bytes(range(6)))
    assert read_idx(path, 3).tolist() == [[[0, 1, 2]], [[3, 4, 5]]]


def test_gzip_is_told_by_content_not_by_name(tmp_path, idx_bytes):
    array = np.arange(300, dtype=np.uint8).reshape(10, 30)
    for name in ("a.gz", "a"):
        (tmp_path / name).write_bytes(gzip.compress(idx_bytes(array)))
        np.testing.assert_array_equal(read_idx(tmp_path / name, 2), array)


def test_no_labels_at_all(tmp_path, idx_bytes):
    (tmp_path / "a").write_bytes(idx_bytes(np.zeros(0, np.uint8)))
    assert read_idx(tmp_path / "a", 1).shape == (0,)


WHOLE = b"\x00\x00\x08\x01\x00\x00\x00\x04abcd"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "begins with nothing"),
        (WHOLE[:6], "begins with 00000801"),  # cut inside the header
        (WHOLE[:-1], "expected 4 bytes"),
        (WHOLE + b"e", "holds more"),
        (
            b"\x00\x00\x08\x01" + b"\xff" * 4,
            r"expected 1,073,741,824 bytes at most, .* claims the shape \(4294967295,\)",
        ),
        (b"\x00\x00\x0d\x01" + WHOLE[4:], "begins with 00000d01"),  # floats
        (b"\x00\x00\x08\x02" + WHOLE[4:], "begins with 00000802"),  # two dimensions
        (b"\x89PNG" + WHOLE[4:], "begins with 89504e47"),
        (gzip.compress(WHOLE)[:-9], "damaged"),
        (gzip.compress(WHOLE)[:-8] + b"\x00" * 8, "damaged"),  # a wrong checksum
        (b"\x1f\x8b" + WHOLE, "damaged"),
    ],
)
def test_damaged_files(tmp_path, data, says):
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says) as error:
        read_idx(path, 1)
    assert str(path) in str(error.value)


def test_nothing_at_all_may_not_claim_to_be_huge_in_another_dimension(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"\x00\x00\x08\x03" + b"\xff" * 8 + bytes(4))

    with pytest.raises(DataError, match=r"expected 1,073,741,824 bytes at most, .* \(4294967295, 4294967295, 0\)"):
        read_idx(path, 3)


def test_a_gzip_bomb_is_not_unfolded(tmp_path):
    path = tmp_path / "labels.gz"
    with gzip.open(path, "wb") as file:
        file.write(WHOLE)
        for _ in range(200):
            file.write(bytes(10**6))
    assert path.stat().st_size < 300_000

    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected 4 bytes for shape"):
            read_idx(path, 1)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="check the path"):
            read_idx(path, 1)

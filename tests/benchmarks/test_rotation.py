import numpy as np
import pytest

from quillrt.benchmarks import rotation
from quillrt.benchmarks.rotation import laid_out, last_cache_bytes, mapped, plan, spread


@pytest.fixture
def machine(monkeypatch):
    def machine(cache, free):
        monkeypatch.setattr(rotation, "last_cache_bytes", lambda: cache)
        monkeypatch.setattr(rotation, "free_memory_bytes", lambda: free)

    return machine


def test_the_rotation_is_larger_than_the_cache(images, machine):
    machine(cache=40 * 2**20, free=2**34)
    found = plan(images, "noise")
    assert found.bytes > 40 * 2**20
    assert found.bytes == found.images * images[0].nbytes
    assert (found.distinct, found.source, found.larger_than_l3) == (20, "noise", True)


def test_where_memory_is_short_it_is_smaller_and_says_so(images, machine):
    machine(cache=2**30, free=2**28)
    found = plan(images, "noise")
    assert found.bytes <= 2**25
    assert found.larger_than_l3 is False
    machine(cache=None, free=2**34)
    assert plan(images, "noise").larger_than_l3 is None


def test_no_image_is_there_twice_and_all_look_like_the_real_ones(images):
    with laid_out(images, 1000) as files:
        turning, check = mapped(files.rotation), mapped(files.check)
    np.testing.assert_array_equal(check, images)
    assert turning.shape == (1000, 1, 8, 8)
    assert type(turning) is np.ndarray  # memmap's slices take longer than a small network
    assert len({image.tobytes() for image in [*turning, *check]}) == 1020
    np.testing.assert_allclose(turning, np.resize(images, turning.shape), rtol=51 * 2.0**-14)
    assert not files.rotation.exists()


def test_writing_to_an_image_stays_in_the_process(images):
    with laid_out(images, 20) as files:
        mapped(files.check)[:] = 0
        np.testing.assert_array_equal(mapped(files.check), images)


def test_the_cache_is_the_largest_that_sysfs_shows(tmp_path):
    for index, size in enumerate(["48K", "2048K", "300M"]):
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n")
    assert last_cache_bytes(tmp_path) == 300 * 2**20
    assert last_cache_bytes(tmp_path / "none") is None


def test_few_images_are_spread_over_all():
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 10).tolist() == [0, 1, 2]

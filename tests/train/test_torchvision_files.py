import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from quillrt.runtime.errors import DataError
from quillrt.train.torchvision_files import SOURCES, read_source

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 28, 28), np.uint8)
LABELS = np.arange(12) % 10


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("kmnist", "KMNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_agrees_with_torchvision(tmp_path, write_raw, name, folder):
    import torchvision

    raw = tmp_path / folder / "raw"
    write_raw(raw, "train", IMAGES, LABELS)
    write_raw(raw, "t10k", IMAGES[:5], LABELS[:5])
    for part, training in zip(read_source(name, tmp_path), (True, False), strict=True):
        theirs = getattr(torchvision.datasets, folder)(tmp_path, train=training)
        np.testing.assert_array_equal(part.images, theirs.data.numpy())
        np.testing.assert_array_equal(part.labels, theirs.targets.numpy())
    if name != "mnist":  # torchvision writes "0 - zero" there
        assert list(SOURCES[name].classes) == theirs.classes


@pytest.mark.parametrize(
    ("name", "split", "count"), [("emnist-balanced", "balanced", 47), ("emnist-byclass", "byclass", 62)]
)
def test_emnist_classes_are_those_of_torchvision(name, split, count):
    from torchvision.datasets import EMNIST

    assert list(SOURCES[name].classes) == EMNIST.classes_split_dict[split]
    assert len(SOURCES[name].classes) == count


def test_gzipped_files_in_a_folder_that_cannot_be_written(tmp_path, write_raw):
    raw = tmp_path / "MNIST" / "raw"
    write_raw(raw, "train", IMAGES, LABELS, gzipped=True)
    write_raw(raw, "t10k", IMAGES, LABELS)
    before = sorted(raw.iterdir())
    raw.chmod(0o555)
    train, test = read_source("mnist", tmp_path)
    raw.chmod(0o755)
    np.testing.assert_array_equal(train.images, test.images)
    assert sorted(raw.iterdir()) == before


def test_emnist_letters_are_turned_upright_and_count_from_zero(tmp_path, write_raw):
    letter = np.zeros((28, 28), np.uint8)
    letter[4, 4:24] = letter[4:24, 14] = 255  # a T
    raw = tmp_path / "EMNIST" / "raw"
    for part in ("train", "test"):
        write_raw(raw, f"emnist-letters-{part}", letter.T[None], np.array([20]))
    for part in read_source("emnist-letters", tmp_path):
        np.testing.assert_array_equal(part.images[0], letter)
        assert [part.classes[label] for label in part.labels] == ["T"]


def test_label_zero_of_letters_means_nothing(tmp_path, write_raw):
    for part in ("train", "test"):
        write_raw(tmp_path / "EMNIST" / "raw", f"emnist-letters-{part}", IMAGES, LABELS)
    with pytest.raises(DataError, match=r"0\.\.25"):
        read_source("emnist-letters", tmp_path)


def test_images_and_labels_of_different_number(tmp_path, write_raw):
    for stem in ("train", "t10k"):
        write_raw(tmp_path / "MNIST" / "raw", stem, IMAGES, LABELS[:-1])
    with pytest.raises(DataError, match="expected 11 images of 28 x 28"):
        read_source("mnist", tmp_path)


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxy between torchvision and this machine's own ports."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def mirror(tmp_path, monkeypatch, write_raw):
    """A web server that torchvision takes for MNIST's, with files of ours."""
    from torchvision.datasets import MNIST

    served = tmp_path / "served"
    write_raw(served, "train", IMAGES, LABELS, gzipped=True)
    write_raw(served, "t10k", IMAGES[:5], LABELS[:5], gzipped=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=served)

        def log_message(self, *arguments):
            pass

    sums = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in sorted(served.iterdir())]
    monkeypatch.setattr(MNIST, "resources", sums)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield served
        server.shutdown()


def test_download(tmp_path, mirror, capsys):
    train, test = read_source("mnist", tmp_path / "new")
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(test.labels, LABELS[:5])
    assert not capsys.readouterr().out


def test_failed_download_says_what_where_and_how(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # the port of `discard`: nobody answers
    with pytest.raises(DataError) as error:
        read_source("mnist", tmp_path / "new")
    message = str(error.value)
    assert f"expected mnist in {tmp_path / 'new' / 'MNIST' / 'raw'}, found no train-images-idx3-ubyte, " in message
    assert "refused" in message
    assert "from torchvision.datasets import MNIST; MNIST('ROOT', download=True)" in message
    assert "\n" not in message
    assert not (tmp_path / "new").exists()  # no empty folders stay


def test_command_for_emnist_names_its_split(tmp_path, monkeypatch):
    from torchvision.datasets import EMNIST

    monkeypatch.setattr(EMNIST, "url", "http://127.0.0.1:9/gzip.zip")
    with pytest.raises(DataError, match=r"EMNIST\('ROOT', split='byclass', download=True\)"):
        read_source("emnist-byclass", tmp_path)


def test_damaged_download(tmp_path, mirror):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"another file"))
    with pytest.raises(DataError, match="corrupted"):
        read_source("mnist", tmp_path / "new")


@pytest.fixture(scope="module")
def real():
    root = os.environ.get("QUILLRT_DATA")
    if not root:
        pytest.skip("QUILLRT_DATA is not set")

    def read(name, folder):
        if not (Path(root) / folder).is_dir():
            pytest.skip(f"no {folder} in QUILLRT_DATA")
        return read_source(name, Path(root))

    return read


@pytest.mark.data
def test_real_mnist(real):
    """The counts are those of the official files."""
    train, test = real("mnist", "MNIST")
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.data
def test_real_letters_stand_upright(real):
    """The mean T is heavy at its top and balanced left to right; the mean E is heavy at its left."""
    train, _ = real("emnist-letters", "EMNIST")
    assert np.unique(train.labels).tolist() == list(range(26))

    def ink(letter):
        mean = train.images[train.labels == train.classes.index(letter)].mean(axis=0)
        return mean[:10].sum(), mean[18:].sum(), mean[:, :10].sum(), mean[:, 18:].sum()

    top, bottom, left, right = ink("T")
    assert top > 1.4 * bottom
    assert abs(left - right) < (top - bottom) / 2
    top, bottom, left, right = ink("E")
    assert left > 1.4 * right

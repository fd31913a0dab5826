"""Adding to a bundle where it lies, which others may do at the same time."""

import shutil
import threading

import pytest

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import add_files, entry_for, write_bundle
from quillrt.runtime.errors import BundleError
from quillrt.runtime.pretrained import find


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(shutil.copy(find("digits", ".quill"), tmp_path / "digits.quill"))


def note(name, data=b"engine"):
    return entry_for(data, name, "report")


def test_what_is_added_stands_beside_what_was_there(bundle):
    add_files(bundle, [note("a.txt"), note("report.json", b"{}")])
    now = Bundle.open(bundle.path)
    assert now.files == {**bundle.files, "a.txt": b"engine", "report.json": b"{}"}
    assert (now.manifest.model, now.manifest.confidence) == (bundle.manifest.model, bundle.manifest.confidence)


def test_nobody_loses_what_others_add_at_the_same_time(bundle):
    threads = [threading.Thread(target=add_files, args=(bundle, [note(f"{i}.txt")])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Bundle.open(bundle.path).files.keys() == bundle.files.keys() | {f"{i}.txt" for i in range(8)}


def test_another_bundle_in_its_place_is_left_alone(bundle):
    shutil.copy(find("letters", ".quill"), bundle.path)
    with pytest.raises(BundleError, match="found another bundle in its place"):
        add_files(bundle, [note("a.txt")])
    assert Bundle.open(bundle.path).files.keys().isdisjoint({"a.txt"})


def test_a_name_twice_writes_nothing(bundle):
    before = bundle.path.read_bytes()
    with pytest.raises(BundleError, match="found a name twice"):
        add_files(bundle, [note("a.txt"), note("a.txt")])
    with pytest.raises(BundleError, match="found a name twice"):
        write_bundle(bundle.path, bundle.manifest.model, bundle.manifest.source, [note("a.txt"), note("a.txt")])
    assert bundle.path.read_bytes() == before

import pytest

from quillrt.runtime.errors import ImageError
from quillrt.runtime.remote_files import content, find, located

pytest.importorskip("pyarrow")


@pytest.fixture
def folder(tmp_path):
    for name in ("b/1.png", "b/_2.PNG", ".c/4.png", "a-b/5.jpg", "a/6.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_an_address_gives_what_a_path_gives_in_the_same_order(folder):
    here = list(find([str(folder)]))

    assert [name.removeprefix(f"{folder}/") for name in here] == [
        ".c/4.png",
        "a/6.png",
        "a-b/5.jpg",
        "b/1.png",
        "b/_2.PNG",
    ]
    assert list(find([f"file://{folder}"])) == [f"file://{name}" for name in here]
    assert list(find([f"file://{folder}/"])) == [f"file://{name}" for name in here]
    assert list(find([f"file://{folder}/b/1.png", f"{folder}/a"])) == [f"file://{folder}/b/1.png", f"{folder}/a/6.png"]


def test_both_are_read(folder):
    assert content(f"{folder}/b/1.png") == content(f"file://{folder}/b/1.png") == b"b/1.png"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_cannot_be_read_is_told(folder, scheme):
    with pytest.raises(ImageError, match=r"expected an image file at .*absent\.png, but .*check the path"):
        content(f"{scheme}{folder}/absent.png")


def test_an_image_at_an_address_of_no_kind_is_told():
    with pytest.raises(ImageError, match=r"expected an image file at foo://bar/a\.png, but .*; check the path"):
        content("foo://bar/a.png")


@pytest.mark.parametrize("address", ["file:///nowhere/at/all", "gopher://host/folder", "file://{}/empty"])
def test_an_address_without_images_is_told(folder, address):
    (folder / "empty").mkdir()

    with pytest.raises(ImageError, match="expected images at"):
        list(find([address.format(folder)]))


def test_a_path_is_located_absolutely(folder, monkeypatch):
    monkeypatch.chdir(folder)

    assert located("b")[1] == str(folder / "b")

import json
import os
import resource
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.bundle import MANIFEST, Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.errors import BundleError
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec

SPEC = character_spec(("a", "b"), Preprocessing(4, 4))
SOURCE = {"kind": "checkpoint", "training": {"epochs": 3}}
FILES = [
    entry_for(
        bytes(range(256)),
        "model.fp16.tensorrt.engine",
        "engine",
        precision=Precision.FP16,
        backends=("tensorrt",),
        tools={"tensorrt": "10.3.0"},
        built_for={"tensorrt": "10.3.0", "compute_capabilities": ["8.7"]},
        measured={"tensorrt": {"accuracy": 0.99, "n": 1000}},
    ),
    entry_for(b'{"ranges": {}}', "calibration.json", "calibration", calibration="abc"),
    entry_for(b"", "report.json", "report"),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.quill"
    write_bundle(path, SPEC, SOURCE, FILES)
    return path


def repack(path, compression=zipfile.ZIP_STORED, **changes):
    """Write the zip again; each change is a file's new content, ``None`` to leave it out, by its name up to the dot."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name in list(files):
        files[name] = changes.pop(name.partition(".")[0], files[name])
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in (files | changes).items():
            if content is not None:
                archive.writestr(name, content)


def rewrite_manifest(path, change):
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    change(manifest)
    repack(path, manifest=json.dumps(manifest))


def test_what_was_written_is_read(path):
    bundle = Bundle.open(path)

    assert (bundle.path, bundle.manifest.model, bundle.manifest.source) == (path, SPEC, SOURCE)
    assert bundle.entries == tuple(entry for entry, _ in FILES)
    assert [bundle.read(entry) for entry in bundle.entries] == [data for _, data in FILES]


def test_any_zip_program_reads_it_and_finds_files_as_their_builders_wrote_them(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [MANIFEST, "model.fp16.tensorrt.engine", "calibration.json", "report.json"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # not when it was made
        assert json.loads(archive.read(MANIFEST))["schema"] == 1
    assert bytes(range(256)) in path.read_bytes()


def test_equal_content_gives_equal_bytes_and_another_content_another_fingerprint(path, tmp_path):
    write_bundle(tmp_path / "again.quill", SPEC, SOURCE, FILES)
    write_bundle(tmp_path / "other.quill", SPEC, SOURCE, [*FILES[:2], entry_for(b"\n", "report.json", "report")])

    assert (tmp_path / "again.quill").read_bytes() == path.read_bytes()
    assert Bundle.open(tmp_path / "again.quill").sha256 == Bundle.open(path).sha256
    assert Bundle.open(tmp_path / "other.quill").sha256 != Bundle.open(path).sha256


def test_every_flipped_byte_is_found_unless_it_means_nothing(path):
    write_bundle(path, SPEC, SOURCE, FILES[1:2])
    whole, content = Bundle.open(path), path.read_bytes()
    unseen = []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            bundle = Bundle.open(path)
        except BundleError:
            continue
        unseen.append(place)
        assert (bundle.manifest, bundle.files) == (whole.manifest, whole.files), f"byte {place}"

    # What may change unseen is the zip's own: dates, versions, permissions; never a byte of a file in it.
    with zipfile.ZipFile(path) as archive:
        manifest = archive.read(MANIFEST)
    for data in (manifest, *whole.files.values()):
        start = content.index(data)
        assert not set(unseen) & set(range(start, start + len(data)))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.25, 0.5, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(BundleError, match=r"expected a \.quill bundle, but .* is no zip, truncated or damaged"):
        Bundle.open(path)


def test_a_text_file_a_folder_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "text.quill").write_text("I am no bundle.\n")

    with pytest.raises(BundleError, match=r"text\.quill is no zip"):
        Bundle.open(tmp_path / "text.quill")
    with pytest.raises(BundleError, match=r"absent\.quill, but No such file or directory; quillrt compile makes one"):
        Bundle.open(tmp_path / "absent.quill")
    with pytest.raises(BundleError, match="Is a directory"):
        Bundle.open(tmp_path)


def test_a_newer_schema_asks_for_an_upgrade(path):
    rewrite_manifest(path, lambda manifest: manifest.update(schema=2, news={"of": "tomorrow"}))

    with pytest.raises(BundleError, match=r"schema 1 or older, found 2; .* upgrade with pip install -U quillrt"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest": None}, "found a zip without one"),
        ({"manifest": b"{"}, "expected JSON in manifest.json"),
        ({"manifest": b"\xff"}, "expected JSON in manifest.json"),
        ({"manifest": b"[" * 100_000}, "expected JSON in manifest.json"),
        ({"manifest": b"[]"}, "expected a manifest with a schema number, found none"),
        ({"manifest": b'{"schema": 1}'}, "found a malformed one: 'model'"),
        ({"report": None}, "the manifest and the files differ in report.json"),
        ({"virus": b"x"}, "the manifest and the files differ in virus"),
        ({"calibration": b'{"ranges": []}'}, r"calibration.json should have sha256 \w{12}…, but has \w{12}…"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_refused(path, changes, message):
    repack(path, **changes)

    with pytest.raises(BundleError, match=message):
        Bundle.open(path)


def test_a_file_twice_is_refused(path):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("report.json", b"")

    with pytest.raises(BundleError, match="a file name stands twice"):
        Bundle.open(path)


def test_an_entry_twice_is_refused(path):
    rewrite_manifest(path, lambda manifest: manifest["entries"].append(manifest["entries"][0]))

    with pytest.raises(BundleError, match="differ in a name twice"):
        Bundle.open(path)


def test_files_that_lie_inside_one_another_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "nested.quill"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("core", bytes(100_000))
        for n in range(50):  # all claim the same bytes
            archive.writestr(f"{n}", b"")
            archive.getinfo(f"{n}").file_size = archive.getinfo(f"{n}").compress_size = 100_000

    with pytest.raises(BundleError, match="expected files side by side, found more than it can hold"):
        Bundle.open(path)


def test_a_compressed_zip_is_refused(path):
    repack(path, zipfile.ZIP_DEFLATED)

    with pytest.raises(BundleError, match="expected files stored uncompressed"):
        Bundle.open(path)


def test_another_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
        archive.writestr("beach.txt", b"sun")

    with pytest.raises(BundleError, match=r"give a \.quill bundle"):
        Bundle.open(tmp_path / "holiday.zip")


@contextmanager
def no_file_larger_than(size):
    """Let the kernel refuse what goes beyond ``size`` bytes, as it does when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 100, 2000])
def test_a_write_that_fails_leaves_nothing_or_the_old_bundle(path, room):
    old = path.read_bytes()
    assert len(old) > room

    for target in (path, path.with_name("new.quill")):
        with no_file_larger_than(room), pytest.raises(OSError, match="File too large"):
            write_bundle(target, SPEC, {"kind": "onnx"}, FILES)

    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == old


def test_a_path_below_a_file_is_an_error_and_the_file_stays(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OSError, match="file"):
        write_bundle(tmp_path / "file" / "model.quill", SPEC, SOURCE, FILES)

    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_write_permission_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_bundle(tmp_path / "model.quill", SPEC, SOURCE, FILES)
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_come_back_as_they_were(tmp_path_factory, contents):
    path = Path(tmp_path_factory.mktemp("bundles")) / "any.quill"
    files = [entry_for(data, f"{n}/файл.bin", "report") for n, data in enumerate(contents)]
    write_bundle(path, SPEC, {}, files)

    bundle = Bundle.open(path)

    assert [bundle.read(entry) for entry in bundle.entries] == contents

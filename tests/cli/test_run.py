import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import onnx
import pytest
from PIL import Image

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.confidence import Confidence
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.ort_options import parse_options
from quillrt.runtime.precision import Precision

pytest.importorskip("onnxruntime")

BRIGHT = 0.998995  # 1 / (1 + 3 exp(-8)): what the classifier of tests/conftest.py gives the white quadrant


@pytest.fixture
def pictures(tmp_path, draw):
    """Four PNG files in a folder; the name is the label."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, label in enumerate(("nw", "ne", "sw", "se")):
        draw(folder / f"{label}.png", k)
    return folder


def test_each_image_gets_a_line_with_its_label_and_probability(quillrt, quadrants_bundle, pictures):
    code, out, err = quillrt("run", quadrants_bundle, pictures / "sw.png", pictures / "ne.png")

    assert code == 0
    assert out.splitlines() == [f"{pictures / 'sw.png'}  sw {BRIGHT:.4f}", f"{pictures / 'ne.png'}  ne {BRIGHT:.4f}"]
    assert err == "model.fp32.onnx on onnxruntime-cpu\n"


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ((), "64:64:64"),
        (("--batch-size", 5), "5:5:5"),
        (("--batch-size", 5, "--provider-option", "min_batch=64"), "64:64:64"),
    ],
)
def test_a_cuda_graph_of_onnxruntimes_tensorrt_is_for_the_queries_there_are(
    quillrt, monkeypatch, quadrants_bundle, pictures, given, batches
):
    opened = []

    def refuse(bundle, backend, precision, options, *_):
        opened.append(parse_options(backend, {"trt_cuda_graph_enable": "1", **options.provider_options}))
        raise BackendUnavailable("no GPU here")

    monkeypatch.setattr("quillrt.runtime.select.open_fitting", refuse)
    asked = ("--backend", "onnxruntime-tensorrt", "--cuda-graph", *given)
    assert quillrt("run", quadrants_bundle, pictures, *asked)[0] == 1
    assert [str(tuning.batches) for tuning in opened] == [batches]


def test_quiet_leaves_the_note_out(quillrt, quadrants_bundle, pictures):
    assert quillrt("run", "-q", quadrants_bundle, pictures / "sw.png")[2] == ""


def test_a_folder_is_read_in_order_of_names(quillrt, quadrants_bundle, pictures):
    (pictures / "notes.txt").write_text("not an image")

    code, out, _ = quillrt("run", quadrants_bundle, pictures, "--batch-size", 3)

    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["ne", "nw", "se", "sw"]


def test_json_holds_the_same_for_programs(quillrt, quadrants_bundle, pictures):
    code, out, _ = quillrt("run", quadrants_bundle, pictures, "--json", "--top-k", 2, "--threads", 1)

    assert code == 0
    found = json.loads(out)
    assert (found["bundle"], found["file"], found["backend"]) == (
        str(quadrants_bundle),
        "model.fp32.onnx",
        "onnxruntime-cpu",
    )
    assert [p["image"] for p in found["predictions"]] == [str(p) for p in sorted(pictures.iterdir())]
    best, second = found["predictions"][2]["top"]
    assert best == {"label": "se", "probability": pytest.approx(BRIGHT, abs=1e-6)}
    assert second == {"label": "nw", "probability": pytest.approx((1 - BRIGHT) / 3, abs=1e-6)}


@pytest.fixture
def doubting_bundle(quadrants, quadrants_bundle):
    """The bundle of ``quadrants``, made less sure and with a threshold that one white quadrant passes."""
    opened = Bundle.open(quadrants_bundle)
    files = [(entry, opened.read(entry)) for entry in opened.entries]
    write_bundle(quadrants_bundle, quadrants.spec, {"kind": "onnx"}, files, confidence=Confidence(8.0, 3.9, {}))
    return quadrants_bundle


def test_an_answer_that_is_not_sure_enough_is_unsure(quillrt, doubting_bundle, pictures):
    share = 1 / (1 + 3 * np.exp(-1))  # logits 4 and -4, divided by 8
    for least, line in ((0.4, f"se {share:.4f}"), (0.6, f"unsure (se {share:.4f})")):
        _, out, _ = quillrt("run", "-q", doubting_bundle, pictures / "se.png", "--min-confidence", least)
        assert out == f"{pictures / 'se.png'}  {line}\n"
    _, out, _ = quillrt("run", doubting_bundle, pictures / "se.png", "--min-confidence", 0.6, "--json")
    (found,) = json.loads(out)["predictions"]
    assert (found["answer"], found["doubt"], found["top"][0]["label"]) == (None, "unsure", "se")
    assert quillrt("run", doubting_bundle, pictures / "se.png", "--min-confidence", 1.5)[0] == 2


def test_what_is_no_character_is_said_unless_every_image_is_one(quillrt, doubting_bundle, pictures):
    blank = pictures / "blank.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(blank)
    assert "no character" in quillrt("run", "-q", doubting_bundle, blank)[1]
    assert "no character" not in quillrt("run", "-q", doubting_bundle, blank, "--no-reject")[1]
    _, out, _ = quillrt("run", doubting_bundle, pictures, "--json")
    assert [p["answer"] for p in json.loads(out)["predictions"]] == [None, "ne", "nw", "se", "sw"]


def test_top_k_beyond_the_labels_gives_all(quillrt, quadrants_bundle, pictures):
    _, out, _ = quillrt("run", quadrants_bundle, pictures / "se.png", "--top-k", 9)

    assert [word for word in out.split()[1:] if word.isalpha()] == ["se", "nw", "ne", "sw"]


def test_a_dash_reads_one_image_from_stdin(monkeypatch, quillrt, quadrants_bundle, pictures):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((pictures / "ne.png").read_bytes())))

    code, out, _ = quillrt("run", quadrants_bundle, pictures / "sw.png", "-", "--backend", "onnxruntime-cpu")

    assert code == 0
    assert out.splitlines()[1] == f"-  ne {BRIGHT:.4f}"


def test_the_command_itself_works_with_a_pipe_at_each_end(quadrants_bundle, pictures):
    done = subprocess.run(
        [sys.executable, "-m", "quillrt.cli", "run", quadrants_bundle, "-"],
        input=(pictures / "se.png").read_bytes(),
        capture_output=True,
        check=True,
    )

    assert done.stdout.decode() == f"-  se {BRIGHT:.4f}\n"


def test_a_file_name_that_is_no_text_is_still_answered(quadrants_bundle, pictures):
    odd = pictures.rename(pictures.with_name("\udcff"))  # the byte FF, which no UTF-8 has
    command = [sys.executable, "-m", "quillrt.cli", "run", "-q", quadrants_bundle, odd / "se.png"]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as where the locale is en_US.UTF-8

    done = subprocess.run(command, capture_output=True, env=strict)

    assert done.stderr == b""
    assert done.stdout.endswith(b"/\xff/se.png  se %.4f\n" % BRIGHT)


def test_a_file_name_neither_steers_the_terminal_nor_breaks_the_line(quillrt, quadrants_bundle, pictures):
    hostile = (pictures / "se.png").rename(pictures / "\x1b[2Ja\nb.png")

    _, out, _ = quillrt("run", "-q", quadrants_bundle, hostile)

    assert out.endswith(f"/\\x1b[2Ja\\nb.png  se {BRIGHT:.4f}\n")
    assert out.count("\n") == 1


def test_an_empty_name_is_wrong_usage_not_this_folder(quillrt, quadrants_bundle):
    code, out, err = quillrt("run", "-q", quadrants_bundle, "")
    assert (code, out) == (2, "")
    assert "found an empty name" in err


@pytest.mark.parametrize("command", [("read", "{}", "--annotate", "{}"), ("explain", "{}", "--output", "{}")])
def test_a_picture_is_not_written_over_the_photograph_that_is_read(quillrt, quadrants_bundle, pictures, command):
    photograph = pictures / "se.png"
    before = photograph.read_bytes()

    verb = [each.format(photograph) for each in command]

    assert_one_line(quillrt(*verb, "--model", quadrants_bundle), "expected to write another file than is read")
    assert photograph.read_bytes() == before


def bomb():
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def newer(bundle):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("manifest.json", b'{"schema": 99}')
    return content.getvalue()


def flipped(bundle):
    content = bytearray(bundle)
    content[content.index(b"quadrants") + 1] ^= 1  # the graph's name, inside the ONNX file
    return bytes(content)


BAD_BUNDLES = {
    "a missing bundle": (None, "No such file or directory"),
    "a text file": (lambda bundle: b"dear reader,\n", "is no zip, truncated or damaged"),
    "an empty file": (lambda bundle: b"", "is no zip, truncated or damaged"),
    "a truncated bundle": (lambda bundle: bundle[: len(bundle) // 2], "is no zip, truncated or damaged"),
    "a flipped byte": (flipped, "damaged"),
    "a newer schema": (newer, "upgrade with pip install -U quillrt"),
}
BAD_IMAGES = {
    "a missing image": (None, "No such file or directory"),
    "a text file": (b"dear reader,\n", "is none; give a PNG or JPEG"),
    "an empty file": (b"", "is empty (0 bytes)"),
    "half an image": (b"\x89PNG\r\n\x1a\n", "is none"),
    "a decompression bomb": (bomb(), "expected at most 64,000,000 pixels"),
}
BAD_OPTIONS = {
    "an unknown backend": (["--backend", "abacus"], "expected a backend out of tensorrt, "),
    "a backend the bundle has nothing for": (["--backend", "litert"], "but: none is of the backend"),
    "an unknown precision": (["--precision", "fp12"], "expected a precision out of fp32, "),
    "provider options of no backend": (["--provider-option", "enable_cuda_graph=1"], "add --backend onnxruntime-cuda"),
    "provider options of a backend without any": (
        ["--backend", "openvino", "--provider-option", "enable_cuda_graph=1"],
        "expected no provider options for backend openvino",
    ),
    "a provider option that there is not": (
        ["--backend", "onnxruntime-cuda", "--provider-option", "cuda_graphs=1"],
        "expected an option of onnxruntime-cuda out of io_binding, ",
    ),
    "a provider option without a value": (
        ["--backend", "onnxruntime-cuda", "--provider-option", "enable_cuda_graph"],
        "expected KEY=VALUE, found 'enable_cuda_graph'",
    ),
    "a provider option twice": (
        [
            "--backend",
            "onnxruntime-cuda",
            *("--provider-option", "prefer_nhwc=1", "--provider-option", "prefer_nhwc=0"),
        ],
        "expected one value of prefer_nhwc, found 1 and 0",
    ),
    "a precision the bundle does not hold": (["--precision", "int8"], "none is of the backend and precision asked for"),
}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_answer_that_is_no_number_is_one_line_on_stderr(quillrt, quadrants, pictures, tmp_path, options):
    model = onnx.load_from_string(quadrants.onnx)
    model.graph.initializer[0].raw_data = np.full((64, 4), np.nan, np.float32).tobytes()
    entry = entry_for(
        model.SerializeToString(), "nan.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",)
    )
    write_bundle(tmp_path / "nan.quill", quadrants.spec, {"kind": "onnx"}, [entry])

    result = quillrt("run", "-q", tmp_path / "nan.quill", pictures, *options)

    assert_one_line(result, "expected finite logits, found NaN")


def assert_one_line(result, phrase):
    code, out, err = result
    assert code == 1
    assert out == ""
    assert err.startswith("quillrt: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert phrase in err


@pytest.mark.parametrize(("damage", "phrase"), BAD_BUNDLES.values(), ids=BAD_BUNDLES.keys())
@pytest.mark.parametrize("verb", ["run", "inspect"])
def test_a_bad_bundle_is_one_line_on_stderr(quillrt, quadrants_bundle, pictures, verb, damage, phrase):
    if damage is None:
        quadrants_bundle.unlink()
    else:
        quadrants_bundle.write_bytes(damage(quadrants_bundle.read_bytes()))

    assert_one_line(quillrt(verb, quadrants_bundle, *[pictures] * (verb == "run")), phrase)


@pytest.mark.parametrize(("content", "phrase"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_a_bad_image_is_one_line_on_stderr_also_after_good_ones(quillrt, quadrants_bundle, pictures, content, phrase):
    bad = pictures / "zzz.png"
    if content is not None:
        bad.write_bytes(content)

    assert_one_line(quillrt("run", "-q", quadrants_bundle, pictures / "ne.png", bad), phrase)


def test_a_name_of_two_lines_is_told_in_one(quillrt, quadrants_bundle, tmp_path):
    assert_one_line(quillrt("run", "-q", quadrants_bundle, tmp_path / "two\nlines.png"), "two lines.png")


def test_an_empty_folder_is_one_line_on_stderr(quillrt, quadrants_bundle, tmp_path):
    (tmp_path / "empty").mkdir()

    assert_one_line(quillrt("run", "-q", quadrants_bundle, tmp_path / "empty"), "it holds none; image files end in")


@pytest.mark.parametrize(("options", "phrase"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_an_option_that_cannot_be_met_is_one_line_on_stderr(quillrt, quadrants_bundle, pictures, options, phrase):
    assert_one_line(quillrt("run", quadrants_bundle, pictures, *options), phrase)


def test_without_any_engine_library_the_extra_is_named(monkeypatch, quillrt, quadrants_bundle, pictures):
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)

    assert_one_line(quillrt("run", quadrants_bundle, pictures), "pip install 'quillrt[ort]'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "model.quill"],
        ["run", "model.quill", "image.png", "--top-k", "0"],
        ["run", "model.quill", "image.png", "--top-k", "many"],
        ["run", "model.quill", "image.png", "--batch-size", "0"],
        ["run", "model.quill", "image.png", "--threads", "0"],
        ["run", "model.quill", "image.png", "--colour"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2_and_says_so_on_stderr(quillrt, arguments):
    code, out, err = quillrt(*arguments)

    assert code == 2
    assert out == ""
    assert "Usage: quillrt run" in err


def test_provider_options_come_from_a_file_too(quillrt, quadrants_bundle, pictures, tmp_path):
    (tmp_path / "run.toml").write_text('[run]\nbackend = "onnxruntime-cuda"\nprovider-option = ["use_tf32=1"]\n')

    code, out, err = quillrt("run", quadrants_bundle, pictures / "sw.png", "--config", tmp_path / "run.toml")

    assert (code, out) == (1, "")
    assert err.endswith("found use_tf32: precision lives in the graph, choose it with --precision\n")


def test_each_image_is_said_how_it_was_prepared(quillrt, tmp_path):
    from paper import Paper, pen

    sheet, crop = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(Paper(ruling="squares", shadow=0.5).photograph((pen("5", 90, 6), 100, 150))).save(sheet)
    Image.fromarray(np.rint(255 - 255 * np.pad(pen("5", 40, 4), 4)).astype(np.uint8)).save(crop)

    def prepared(*options):
        code, out, err = quillrt("run", "models:digits", sheet, crop, "--json", *options)
        assert code == 0, err
        return [(p["answer"], p["preprocessing"], p["because"]) for p in json.loads(out)["predictions"]]

    assert prepared() == [("5", "photo", "lines"), ("5", "as-is", "cropped, on even paper")]
    assert prepared("--preprocessing", "photo") == [("5", "photo", "asked for")] * 2
    assert prepared("--preprocessing", "as-is")[1] == ("5", "as-is", "asked for")


def test_an_unknown_preprocessing_is_told(quillrt, quadrants_bundle, pictures):
    code, _, err = quillrt("run", quadrants_bundle, pictures, "--preprocessing", "scan")

    assert code == 1
    assert "expected preprocessing out of auto, as-is, photo, found 'scan'" in err

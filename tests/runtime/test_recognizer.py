import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

import quillrt.runtime as qr
from quillrt.runtime.errors import BundleError, ConfigError, ImageError
from quillrt.runtime.recognizer import Recognizer

pytest.importorskip("onnxruntime")

# The network of `quadrants` names the quadrant with the most light.
GREY = np.zeros((8, 8), np.uint8)
GREY[:4, 4:] = 255


@pytest.fixture
def recognizer(quadrants_bundle):
    with qr.open(quadrants_bundle) as opened:
        yield opened


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_one_image_of_any_kind_is_one_prediction(recognizer, tmp_path):
    path = tmp_path / "ne.png"
    path.write_bytes(png(GREY))
    colour = np.repeat(GREY[:, :, None], 3, axis=2)
    kinds = [str(path), path, png(GREY), Image.fromarray(GREY), GREY, GREY == 255, (GREY / 255).astype(np.float32)]
    kinds += [GREY[:, :, None], colour, Image.fromarray(colour), np.dstack([colour, np.full((8, 8), 255, np.uint8)])]
    found = [recognizer.predict(kind) for kind in kinds]
    assert [each.label for each in found] == ["ne"] * len(kinds)
    assert len({each.top for each in found}) == 1
    assert found[0].name == str(path)
    assert 0 < found[0].probability <= 1


def test_several_images_are_a_list_in_their_order(recognizer, tmp_path):
    turned = [np.rot90(GREY, k) for k in range(4)]  # counter-clockwise: ne, nw, sw, se
    wanted = ["ne", "nw", "sw", "se"]
    (tmp_path / "a.png").write_bytes(png(turned[1]))
    batches = [
        turned,
        np.stack(turned),
        np.stack(turned)[:, None],
        np.stack(turned)[..., None],
        np.repeat(np.stack(turned)[:, None], 3, axis=1),
        (Image.fromarray(image) for image in turned),
        [turned[0], tmp_path / "a.png", png(turned[2]), Image.fromarray(turned[3])],
    ]
    assert [[each.label for each in recognizer.predict(batch)] for batch in batches] == [wanted] * len(batches)
    assert recognizer.predict([]) == []
    assert [each.name for each in recognizer.predict(np.stack(turned))] == ["0", "1", "2", "3"]


def test_top_k_are_the_likeliest_labels(recognizer):
    top = recognizer.predict(GREY, top_k=4).top
    assert {label for label, _ in top} == set(recognizer.labels)
    assert [share for _, share in top] == sorted((share for _, share in top), reverse=True)
    assert sum(share for _, share in top) == pytest.approx(1)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.full((8, 8), 2.0), "floats from 0 to 1, found 2 to 2"),
        (np.full((8, 8), np.nan), "floats from 0 to 1, found nan"),
        (np.zeros((8, 8), np.int64), "found int64; convert it"),
        (np.zeros(8, np.uint8), r"found \(8,\)"),
        (np.zeros((2, 3, 8, 8, 1), np.uint8), r"found \(2, 3, 8, 8, 1\)"),
        (np.zeros((5, 3, 8, 3), np.uint8), r"found \(5, 3, 8, 3\)"),  # channels first, or last?
        (np.zeros((0, 8), np.uint8), r"found one of shape \(0, 8\)"),
        ([np.zeros((2, 8, 8), np.uint8)], r"expected image 0 of shape .*, found \(2, 8, 8\)"),
        ([GREY, 3], "as image 1, found int"),
        (3, "found int"),
        (io.BytesIO(b"GIF"), "found BytesIO"),
        ({"a.png": GREY}, "found dict"),
        (b"", r"image 0 is empty"),
        (b"no image at all", "image 0 is none"),
        ("nowhere.png", r"nowhere\.png"),
    ],
)
def test_what_is_no_image_is_said(recognizer, images, said):
    with pytest.raises(ImageError, match=said):
        recognizer.predict(images)


def test_a_pillow_image_that_turns_out_damaged(recognizer):
    with pytest.raises(ImageError, match="image 0 is damaged"):
        recognizer.predict(Image.open(io.BytesIO(png(np.tile(GREY, (20, 20)))[:60])))


def test_a_pillow_image_whose_exif_ends_early(recognizer):
    content = io.BytesIO()
    Image.fromarray(GREY).convert("RGB").save(content, "WEBP", exif=b"II*\0")

    with pytest.raises(ImageError, match="image 0 is damaged"):
        recognizer.predict(Image.open(content))


@pytest.mark.parametrize("verb", ["predict", "read"])
def test_a_pillow_image_that_cannot_be_converted(recognizer, verb):
    image = Image.fromarray(GREY)
    image.info["transparency"] = "much"

    with pytest.raises(ImageError, match=r"^expected a whole image, but image 0 is damaged: .*; copy it again$"):
        getattr(recognizer, verb)(image)


def test_opening_says_what_is_wrong(quadrants_bundle, tmp_path):
    with pytest.raises(BundleError, match=r"none\.quill"):
        qr.open(tmp_path / "none.quill")
    with pytest.raises(ConfigError, match="expected a backend out of"):
        qr.open(quadrants_bundle, backend="magic")
    with pytest.raises(ConfigError, match="int7"):
        qr.open(quadrants_bundle, precision="int7")
    with pytest.raises(ConfigError, match="top_k of 1 or more"), qr.open(quadrants_bundle) as opened:
        opened.predict(GREY, top_k=0)


def test_a_closed_recognizer_is_not_used_again(quadrants_bundle):
    opened = qr.open(str(quadrants_bundle), backend="onnxruntime-cpu")
    assert (opened.backend, opened.entry.path) == ("onnxruntime-cpu", "model.fp32.onnx")
    opened.close()
    opened.close()
    with pytest.raises(ConfigError, match="found a closed one"):
        opened.predict(GREY)


def test_threads_take_turns_at_the_session_and_get_their_own_answers(quadrants, recognizer):
    inside, most, wrong = [0], [0], []

    class Watched:
        spec = recognizer.spec

        def run(self, batch):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            logits = recognizer._session.run(batch)
            inside[0] -= 1
            return logits

        def close(self):
            pass

    shared = Recognizer(Watched(), recognizer.entry, "watched")

    def work(turns, label):
        for _ in range(20):
            if shared.predict(np.rot90(GREY, turns)).label != label:
                wrong.append(label)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(("ne", "nw", "sw", "se"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], wrong) == (1, [])


def test_importing_the_package_loads_no_numpy():
    code = "import sys, quillrt.runtime; assert 'numpy' not in sys.modules; quillrt.runtime.open"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'shut'"):
        qr.shut  # noqa: B018

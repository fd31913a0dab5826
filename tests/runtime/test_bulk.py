from itertools import islice

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.bulk import recognize_files, shared_out
from quillrt.runtime.confidence import AS_IT_IS, Confidence
from quillrt.runtime.errors import AccuracyError
from quillrt.runtime.images import read_image
from quillrt.runtime.predict import predict
from quillrt.runtime.rows import Choices, answered, unreadable
from quillrt.runtime.session import Session


class OneBuffer(Session):
    """The classifier of ``quadrants`` without any engine; hands out the same buffer again, as engines do."""

    def __init__(self, quadrants):
        self._spec, self._logits, self._buffer = quadrants.spec, quadrants.logits, np.empty((64, 4), np.float32)
        self.sizes = []

    @property
    def spec(self):
        return self._spec

    def run(self, batch):
        self.spec.input.check(batch)
        self.sizes.append(len(batch))
        self._buffer[: len(batch)] = self._logits(batch)
        return self._buffer[: len(batch)]

    def close(self):
        pass


@pytest.fixture
def session(quadrants):
    return OneBuffer(quadrants)


@pytest.fixture
def files(tmp_path):
    """Nineteen images of noise, number 7 and a whole batch of three (9, 10, 11) unreadable."""
    random = np.random.default_rng(0)
    for n in range(19):
        file = tmp_path / f"{n:02}.png"
        if n in (7, 9, 10, 11):
            file.write_text("no image")
        else:
            Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(file)
    return sorted(tmp_path.iterdir())


def test_the_rows_are_those_of_predict_in_order(session, files):
    choices, confidence, written = Choices(2, 0.3, preprocessing="as-is"), Confidence(2.0, 1.5), []

    recognize_files(session, confidence, map(str, files), choices, written.append, workers=2, batch_size=3)

    readable = [(str(file), read_image(file)) for n, file in enumerate(files) if n not in (7, 9, 10, 11)]
    expected = {p.name: answered(p, choices) for p in predict(session, readable, 2, 64, confidence)}
    rows = [row for batch in written for row in batch]
    assert [len(batch) for batch in written] == [3, 3, 3, 3, 3, 3, 1]
    for n, (row, file) in enumerate(zip(rows, files, strict=True)):
        if n in (7, 9, 10, 11):
            assert row == unreadable(str(file), row["error"])
            assert f"{file.name} is none" in row["error"]
        else:
            assert row == expected[str(file)]
    assert len({row["doubt"] for row in rows}) > 1
    assert session.sizes[:5] == [3, 3, 2, 3, 3]


def test_no_file_gives_no_row(session):
    written = []

    recognize_files(session, AS_IT_IS, iter([]), Choices(), written.append, workers=1, batch_size=3)

    assert written == []


@pytest.mark.parametrize("workers", [1, 2])
def test_images_alive_are_few_however_many_files_there_are(session, files, workers):
    taken = most = done = 0

    def stream():
        nonlocal taken
        for n in range(500):
            taken += 1
            yield str(files[n % 7])

    def write(rows):
        nonlocal most, done
        most = max(most, taken - done)
        done += len(rows)

    recognize_files(session, AS_IT_IS, stream(), Choices(), write, workers=workers, batch_size=4)

    assert done == taken == 500
    # Batches that are read or wait, one that the session has, one that is written.
    assert most <= 4 * (4 * workers + 1 + 2)


def test_progress_counts_images(session, files):
    seen = []

    def track(items, label, total=None):
        seen.append((label, total))
        for item in items:
            seen.append(item)
            yield item

    recognize_files(session, AS_IT_IS, map(str, files), Choices(), len, 1, 4, track, len(files))

    assert seen == [("recognizing", 19), *[None] * 19]


def test_what_was_handed_over_is_written_when_the_run_is_interrupted(session, files):
    written = []

    def interrupted(items, label, total=None):
        yield from islice(items, 8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recognize_files(session, AS_IT_IS, map(str, files), Choices(), written.extend, 1, 4, interrupted)

    assert [row["image"] for row in written] == [str(file) for file in files[: len(written)]]
    assert len(written) in (8, 12)


def test_an_error_in_writing_ends_the_run(session, files):
    def write(rows):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        recognize_files(session, AS_IT_IS, map(str, files), Choices(), write, 1, 4)


def test_an_overflowing_model_ends_the_run(session, files, monkeypatch):
    monkeypatch.setattr(session, "_logits", lambda batch: np.full((len(batch), 4), np.nan))

    with pytest.raises(AccuracyError, match="expected finite logits"):
        recognize_files(session, AS_IT_IS, map(str, files), Choices(), len, 1, 4)


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "expected"),
    [
        (None, None, 1, (1, 1)),
        (None, None, 2, (1, 1)),
        (None, None, 16, (8, 8)),
        (3, None, 16, (3, 13)),
        (None, 4, 16, (12, 4)),
        (None, 4, 2, (1, 4)),
        (5, 7, 2, (5, 7)),
    ],
)
def test_cores_are_shared_out(workers, threads, cores, expected):
    assert shared_out(workers, threads, cores) == expected

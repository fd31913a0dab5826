"""Each method against numpy, another library or a search over the raw values."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from quillrt.calibration import histogram, methods
from quillrt.calibration.histogram import BINS, Histogram
from quillrt.calibration.methods import METHODS, Method

RNG = np.random.default_rng(7)
BELL = RNG.normal(0, 1, 50_000).astype(np.float32)
TAIL = RNG.laplace(0, 0.5, 50_000).astype(np.float32)
RELU = np.maximum(RNG.normal(0.2, 1, 50_000), 0).astype(np.float32)
OUTLIER = np.append(RNG.uniform(-1, 1, 50_000), [40.0]).astype(np.float32)
EACH = pytest.mark.parametrize("values", [BELL, TAIL, RELU, OUTLIER], ids=["bell", "tail", "relu", "outlier"])


def counted(values) -> Histogram:
    found = Histogram()
    for batch in np.array_split(values, 7):
        found.add(batch)
    return found


def onnxruntimes(values, method: str) -> tuple[float, float]:
    collector = HistogramCollector(method, False, 2 * BINS, 256, 99.9, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": values})
        low, high = collector.compute_collection_result()["x"][:2]
    return float(low), float(high)


@EACH
def test_minmax(values) -> None:
    assert Method("minmax").range_of(counted(values)) == (values.min(), values.max())


@EACH
@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 100.0])
def test_percentile_is_numpys(values, percentile: float) -> None:
    counts = counted(values)
    cut = (100 - percentile) / 2
    bin_width = counts.limit / BINS
    expected = np.percentile(values, [cut, 100 - cut])
    # Between two values far apart, as beside an outlier, any number has the share below it.
    slack = np.ptp(np.sort(values)[-2:]) if percentile == 100 else 0
    found = Method("percentile", percentile).range_of(counts)
    np.testing.assert_allclose(found, expected, atol=2 * bin_width + slack + 0.02)


@EACH
def test_percentile_is_onnxruntimes(values) -> None:
    found = Method("percentile", 99.9).range_of(counted(values))
    np.testing.assert_allclose(found, onnxruntimes(values, "percentile"), atol=0.05)


def test_entropy_by_hand() -> None:
    """A flat distribution up to 1 tells the same in 128 levels at any number of bins that 128 divides; clipping none
    of it costs nothing, so the threshold reaches its end."""
    flat = (np.arange(BINS // 2 * 40) % (BINS // 2) + 0.5) / BINS
    low, high = Method("entropy").range_of(counted(np.append(flat, -flat).astype(np.float32)))
    assert high == pytest.approx(0.5, abs=1 / BINS)
    assert low == pytest.approx(-0.5, abs=1 / BINS)


def published_entropy(values, bins: int, levels: int = 128) -> float:
    """The pseudo-code of TensorRT's calibration, loop by loop, with the smoothing of MXNet's; the threshold in bins."""
    magnitudes, edges = np.histogram(np.abs(values), bins, (0, 2.0 ** np.ceil(np.log2(np.abs(values).max()))))
    counts = [int(n) for n in magnitudes]
    counts[0] = counts[1]
    divergences = {}
    for end in range(levels, max(i for i, n in enumerate(counts) if n) + 2):
        p = [float(n) for n in counts[:end]]
        p[-1] += sum(counts[end:])
        q = [0.0] * end
        for level in range(levels):
            inside = range(level * end // levels, (level + 1) * end // levels)
            filled = [i for i in inside if p[i]]
            for i in filled:
                q[i] = sum(counts[i] for i in inside) / len(filled)
        some = [i for i in range(end) if p[i]]
        mass_p, mass_q = sum(p), sum(q)
        smooth = [0.9999 * q[i] / mass_q + 0.0001 / len(some) for i in some]
        divergences[end] = sum(p[i] / mass_p * np.log(p[i] / mass_p / s) for i, s in zip(some, smooth, strict=True))
    return edges[min(divergences, key=divergences.__getitem__)]


@pytest.mark.parametrize("values", [BELL[:3000], TAIL[:3000], OUTLIER[-3000:]], ids=["bell", "tail", "outlier"])
def test_entropy_is_the_published_algorithm(monkeypatch, values) -> None:
    for module in (methods, histogram):
        monkeypatch.setattr(module, "BINS", 512)
    low, high = Method("entropy").range_of(counted(values))
    threshold = published_entropy(values, 512)
    assert (low, high) == pytest.approx((max(values.min(), -threshold), min(values.max(), threshold)))


def test_entropy_does_not_cut_at_a_background() -> None:
    """Four fifths of the values are one and the same: what lies beyond it would be clipped into its bin unseen."""
    strokes = RNG.uniform(0.5, 2.8, 10_000)
    high = Method("entropy").range_of(counted(np.append(np.full(40_000, -0.42), strokes).astype(np.float32)))[1]
    assert (strokes > high).mean() < 0.06


def test_entropy_cuts_about_where_onnxruntime_does() -> None:
    """Its calibrator spreads 256 levels over both signs, which are ours on magnitudes, but drops what 256 leaves."""
    for values in (BELL, TAIL):
        ours, theirs = Method("entropy").range_of(counted(values))[1], onnxruntimes(values, "entropy")[1]
        assert ours == pytest.approx(theirs, rel=0.4)


def test_entropy_cuts_a_lonely_outlier_and_keeps_what_is_dense() -> None:
    low, high = Method("entropy").range_of(counted(OUTLIER))
    assert low == OUTLIER.min()
    assert 0.95 < high < 5


def squared_error(values, low: float, high: float) -> float:
    step = (high - low) / 255
    levels = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step))
    return float(((values - levels * step) ** 2).mean())


@EACH
def test_mse_is_least_among_all_shrinkings(values) -> None:
    low, high = Method("mse").range_of(counted(values))
    least = min(
        squared_error(values.astype(np.float64), share * min(values.min(), 0), share * values.max())
        for share in np.linspace(0.02, 1, 50)
    )
    assert squared_error(values.astype(np.float64), min(low, 0), high) <= 1.02 * least


def test_mse_by_hand() -> None:
    """Beside nine values of 1, clipping the one of 100 costs more than rounding; beside ten million of 0.3 it does not.

    Rounding 0.3 to steps of 100 / 255 costs 0.0085 each, 85,000 in all; clipping 100 to 80 costs 400.
    """
    low, high = Method("mse").range_of(counted(np.array([1] * 9 + [100], np.float32)))
    assert (low, high) == (1, pytest.approx(100, rel=0.02))
    many = np.append(np.full(10_000_000, 0.3), 100).astype(
        np.float32
    )  # rounding to 0.39 costs 0.0085 each, 85,000 in all
    assert Method("mse").range_of(counted(many))[1] < 80


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[0.0], [3.0] * 5, [-2.0, -1.0], [0.0, 1e-30], [-1e30, 1e30]], ids=str)
def test_ranges_of_few_values_lie_within_them(method: str, values) -> None:
    low, high = Method(method).range_of(counted(np.array(values * 7, np.float32)))
    assert np.float32(min(values)) <= low <= high <= np.float32(max(values))


def test_names() -> None:
    assert (str(Method("mse")), str(Method("percentile", 99.99))) == ("mse", "percentile 99.99")


@pytest.mark.parametrize("largest", [3.9999, 4.0001])
def test_entropy_clips_a_hundredth_at_most_also_where_the_last_bin_holds_more(largest):
    values = np.random.default_rng(0).uniform(0, largest, 20_000).astype(np.float32)
    values[:14_000], values[14_000:15_000] = -0.4, largest  # a background, and one value in twenty at the top
    histogram = Histogram()
    histogram.add(values)
    _, high = Method("entropy").range_of(histogram)
    assert (values > high * 1.0001).mean() <= 0.01


def test_a_percentile_keeps_its_digits():
    assert str(Method("percentile", 99.99999)) == "percentile 99.99999"
    assert str(Method("percentile", 99.0)) == "percentile 99"

"""Two results: what became slower, by figures known by hand, and what cannot be told."""

from dataclasses import replace
from math import comb, inf

import numpy as np
import pytest
from invented import NOISY, REFERENCE, absent, result, row
from scipy.stats import t as student

from quillrt.benchmarks.comparison import compare
from quillrt.benchmarks.comparison_accuracy import accuracy_change, same_images
from quillrt.benchmarks.comparison_machine import obstacles, remarks
from quillrt.benchmarks.intervals import ratio_interval
from quillrt.benchmarks.measured import Accuracy
from quillrt.runtime.errors import ConfigError, DataError


def verdicts(*pair, **options):
    return {each.title: each.verdict for each in compare(*pair, **options).rows}


@pytest.fixture(scope="module")
def old():
    return result(row(REFERENCE, 1, 1.0), row("litert int8", 1, 0.2), row("litert int8", 64, 4.0))


def changed(old, **factors):
    """The result with each row's rounds multiplied by ``factors[backend]``."""
    return result(*(row(r.name, r.batch, r.measured.median_ms * factors.get(r.backend, 1.0)) for r in old.rows))


def test_a_result_is_as_fast_as_itself(old):
    found = compare(old, old)
    assert {each.verdict for each in found.rows} == {"unchanged"}
    assert {each.ratio for each in found.rows} == {1.0}
    assert all(each.low <= 1 <= each.high for each in found.rows)
    assert (found.missing, found.added, found.regressions) == ((), (), ())


def test_a_row_a_fifth_slower_is_named(old):
    found = compare(old, changed(old, litert=1.2))
    assert found.regressions == ("litert int8, batch 1", "litert int8, batch 64")
    slow = found.rows[1]
    assert slow.ratio == pytest.approx(1.2, rel=1e-3)
    assert 1.15 < slow.low < 1.2 < slow.high < 1.25
    assert slow.why.startswith("1.2 times as long, 95 % interval 1.1")
    assert found.rows[0].verdict == "unchanged"


def test_a_row_a_fifth_slower_is_allowed_where_that_is_the_threshold(old):
    assert not compare(old, changed(old, litert=1.2), 25).regressions


def test_a_row_a_fifth_faster_is_no_regression(old):
    assert verdicts(old, changed(old, litert=0.8))["litert int8, batch 1"] == "faster"


def test_noise_is_not_called_slower(old):
    noisy = result(*(row(r.name, r.batch, 1.2 * r.measured.median_ms, rounds=NOISY) for r in old.rows))
    assert set(verdicts(old, noisy).values()) == {"too noisy"}
    assert set(verdicts(noisy, noisy).values()) == {"too noisy"}


def test_fewer_than_five_rounds_are_not_judged(old):
    few = result(*(row(r.name, r.batch, 2 * r.measured.median_ms, rounds=(1.0, 1.01)) for r in old.rows))
    assert set(verdicts(old, few).values()) == {"not judged"}


def test_what_is_wrong_now_is_a_regression_and_what_was_is_none(old):
    bad = result(row(REFERENCE, 1, 1.0), row("litert int8", 1, 0.1, wrong=True))
    name = "litert int8, batch 1"
    assert compare(old, bad).regressions == (name,)
    assert verdicts(old, bad)[name] == "wrong"
    assert verdicts(bad, bad)[name] == "still wrong"
    assert not compare(bad, bad).regressions
    assert verdicts(bad, old)[name] == "mended"


def test_nothing_measured_before_is_no_comparison(old):
    nothing = result(absent("litert int8", 1, "no LiteRT"))
    with pytest.raises(DataError, match="rows that were measured, found none"):
        compare(nothing, old)
    with pytest.raises(ConfigError, match="0 % or more, found inf"):
        compare(old, old, inf)


def test_missing_and_new_rows_are_listed(old):
    new = result(row(REFERENCE, 1, 1.0), absent("litert int8", 1, "no LiteRT"), row("openvino int8", 1, 0.3))
    found = compare(old, new)
    assert [each.title for each in found.rows] == ["eager fp32, batch 1"]
    assert found.missing == ("litert int8, batch 1: no LiteRT", "litert int8, batch 64: it takes no part any more")
    assert found.added == ("openvino int8, batch 1",)


def as_rates(found, *rates):
    """The result's rows with rates as their metric, as in the scenario server."""
    rows = []
    for each in found.rows:
        metric = replace(each.measured.metric, name="rate_qps", higher_is_better=True, rounds=rates)
        rows.append(replace(each, measured=replace(each.measured, metric=metric)))
    return replace(found, rows=tuple(rows))


def test_a_lower_rate_takes_longer(old):
    before, after = as_rates(old, 100, 101, 99, 100, 100), as_rates(old, 50, 51, 49, 50, 50)
    (first, *_) = compare(before, after).rows
    assert (first.verdict, first.ratio, first.old, first.new) == ("slower", pytest.approx(2), 100, 50)
    assert set(verdicts(after, before).values()) == {"faster"}


def test_no_rate_at_all_is_slower_and_none_before_is_not_judged(old):
    some, none = as_rates(old, 100, 101, 99, 100, 100), as_rates(old, 0, 0, 0, 0, 0)
    found = compare(some, none)
    assert {each.verdict for each in found.rows} == {"slower"}
    assert {each.ratio for each in found.rows} == {None}
    assert set(verdicts(none, some).values()) == {"not judged"}
    assert set(verdicts(some, as_rates(old, 100, 100, 0, 100, 100)).values()) == {"not judged"}


def test_a_time_is_not_compared_with_a_rate(old):
    found = compare(old, as_rates(old, 100, 101, 99, 100, 100))
    assert {(each.verdict, each.ratio, each.why) for each in found.rows} == {
        ("not judged", None, "ms before, rate_qps now")
    }


def test_the_interval_holds_the_ratio_as_often_as_it_says():
    """Of 200 pairs of five rounds whose true ratio is 1.1: 95 % within four standard errors, or more."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        _, low, high = ratio_interval(*(scale * random.lognormal(0, 0.1, 5) for scale in (1.0, 1.1)))
        held += low <= 1.1 <= high
    assert held / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_a_row_whose_sessions_differ_is_not_called_slower():
    before, rounds, builds = (
        row(REFERENCE, 1, 1.0, rounds=(1.0,) * 9),
        (1.05,) * 3 + (1.1,) * 3 + (1.2,) * 3,
        (0, 0, 0, 1, 1, 1, 2, 2, 2),
    )
    said = [
        compare(result(before), result(row(REFERENCE, 1, 1.0, rounds=rounds, builds=given))).rows[0].verdict
        for given in ((0,) * 9, builds)
    ]
    assert said == ["slower", "too noisy"]


def test_one_session_beside_several_is_taken_to_differ_as_they_do():
    """Of the old side nothing but one session is known: its error is that of one, beside the new side's of three."""
    old, new, builds = [1.0] * 9, [1.05] * 3 + [1.1] * 3 + [1.2] * 3, (0, 0, 0, 1, 1, 1, 2, 2, 2)
    logs = np.log([1.05, 1.1, 1.2])
    expected = student.interval(0.95, 2, loc=logs.mean(), scale=logs.std(ddof=1) * np.sqrt(1 / 3 + 1))
    for one in ((), (0,) * 9):
        _, low, high = ratio_interval(old, new, (one, builds))
        assert np.log([low, high]) == pytest.approx(expected, rel=1e-6)


def test_sessions_that_differ_hide_a_ratio():
    old, new, builds = [1.0] * 9, [1.05] * 3 + [1.1] * 3 + [1.2] * 3, (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert ratio_interval(old, new)[1] > 1
    ratio, low, high = ratio_interval(old, new, (builds, builds))
    assert ratio == pytest.approx(1.1)
    assert low < 1 < 1.2 < high


@pytest.mark.parametrize("old_times", [[], [1.0], [0.0, 1.0, 1.0], [1.0, inf]])
def test_nothing_is_told_of_too_little(old_times):
    assert ratio_interval(old_times, [1.0, 1.0]) == (None, None, None)


def test_a_ratio_that_no_number_holds_is_not_told():
    assert ratio_interval([5e-324] * 5, [1e300] * 5) == (None, None, None)


def of(images, right, wrong=None):
    return Accuracy(images, right, 0.0, 1.0, 0, 0, 1.0, wrong)


def test_mcnemars_p_is_exact_where_both_say_which_images_they_got_wrong():
    """Images 0 to 9 before, 6 to 19 after: six are mended, ten lost, so 16 coins fall six to ten or worse."""
    found = accuracy_change(of(100, 90, tuple(range(10))), of(100, 86, tuple(range(6, 20))), same=True)
    p = 2 * sum(comb(16, k) for k in range(7)) / 2**16
    assert (found.points, found.p_low, found.p_high) == pytest.approx((-4, p, p))
    assert found.bounded == ""


@pytest.mark.parametrize(
    ("same", "wrong", "said"), [(None, True, "which images it has"), (True, False, "it got wrong")]
)
def test_mcnemars_p_lies_between_the_two_extremes(same, wrong, said):
    """10 and 14 errors of 100: the 10 may be among the 14, four against none; or all apart, 10 against 14."""
    found = accuracy_change(of(100, 90, tuple(range(10))), of(100, 86, tuple(range(14)) if wrong else None), same)
    assert found.points == pytest.approx(-4)
    assert found.p_low == 2 / 2**4
    assert found.p_high == pytest.approx(2 * sum(comb(24, k) for k in range(11)) / 2**24)
    assert said in found.bounded


def test_many_errors_cannot_all_be_apart():
    """60 and 70 errors of 100 share 30 at least: 30 against 40."""
    found = accuracy_change(of(100, 40), of(100, 30), None)
    assert found.p_high == pytest.approx(2 * sum(comb(70, k) for k in range(31)) / 2**70)


def test_the_same_accuracy_may_be_chance_and_other_images_are_not_compared():
    assert accuracy_change(of(100, 90), of(100, 90), None).p_high == 1
    assert accuracy_change(of(100, 90), of(99, 90), None) is None
    assert accuracy_change(of(100, 90), of(100, 90), same=False) is None
    assert accuracy_change(None, of(99, 90), None) is None


def test_images_are_the_same_by_their_sha256_before_their_name(old):
    def of_images(source, sha256=None):
        told = {"images_sha256": sha256} if sha256 else {}
        return replace(old, settings={**old.settings, "source": source, **told})

    assert same_images(of_images("a", "1"), of_images("b", "1")) is True
    assert same_images(of_images("a", "1"), of_images("a", "2")) is False
    assert same_images(of_images("a"), of_images("a", "2")) is None
    assert same_images(of_images("a"), of_images("b", "2")) is False


def test_which_images_are_wrong_decides_where_it_is_told(old):
    """20 and 35 errors of 2,000 are 0.75 points: with bounds that may be chance, among the same images it is none."""

    def of_row(right, *, told):
        made = result(row(REFERENCE, 1, 1.0, right=right))
        (only,) = made.rows
        accuracy = replace(only.measured.accuracy, wrong=tuple(range(2000 - right)) if told else None)
        only = replace(only, measured=replace(only.measured, accuracy=accuracy))
        return replace(made, rows=(only,), settings={**made.settings, "images_sha256": "1"})

    bounded = compare(of_row(1980, told=False), of_row(1965, told=True))
    assert (bounded.regressions, bounded.bounded) == ((), ("a result does not say which images it got wrong",))
    exact = compare(of_row(1980, told=True), of_row(1965, told=True))
    assert (exact.regressions, exact.bounded) == (("eager fp32, batch 1",), ())


def test_peers_are_not_compared(old):
    peers = [replace(each, backend="onnxruntime-loop", kind="peer") for each in old.rows]
    both = replace(old, rows=(*old.rows, *peers))
    slower = changed(old, litert=1.2)
    assert compare(both, replace(slower, rows=(*slower.rows, *peers))) == compare(old, slower)
    assert compare(both, old).missing == ()


def test_lost_accuracy_is_a_regression_beyond_chance_alone(old):
    """Of 2,000 images 10 are wrong at first: 26 more are beyond chance and 0.5 points, 9 more are not."""
    less = result(row(REFERENCE, 1, 1.0, right=1990 - 26), row("litert int8", 1, 0.2, right=1990 - 9))
    found = compare(old, less)
    assert found.regressions == ("eager fp32, batch 1",)
    assert found.rows[0].verdict == "less accurate"
    assert found.rows[1].accuracy.points == pytest.approx(-0.45)
    other = replace(less, settings={**less.settings, "source": "photographs test"})
    assert {each.accuracy for each in compare(old, other).rows} == {None}


def test_other_machines_and_settings_are_obstacles_and_other_versions_are_not(old):
    def with_(environment=(), settings=(), **device):
        changed = {**old.environment, **dict(environment), "device": {**old.environment["device"], **device}}
        return replace(old, environment=changed, settings={**old.settings, **dict(settings)})

    assert obstacles(old, old) == remarks(old, old) == []
    assert obstacles(old, with_(cpu="Other")) == ["processor: Some CPU → Other"]
    assert obstacles(old, with_(cores=4)) == ["cores: 2 → 4"]
    assert obstacles(old, with_(gpus=[{"name": "Orin"}])) == ["GPUs: none → Orin"]
    clocks = {"power_mode": 2, "power_mode_name": "15W", "clocks": {}}
    assert obstacles(old, with_({"jetson": clocks})) == ["power mode: not told → 15W"]
    assert obstacles(old, with_(settings={"threads": 2})) == ["threads: 1 → 2"]
    newer = with_({"packages": {"quillrt": "0.1.0", "numpy": "2.5.0", "onnx": "1.0"}, "on_battery": True})
    assert obstacles(old, newer) == []
    assert remarks(old, newer) == ["on battery: not told → True", "numpy: 2.4.6 → 2.5.0", "onnx: not told → 1.0"]

"""How far one channel owns the difference: hand-computed, and the warning that comes of it."""

import logging
import re

import pytest
import torch

from refusalscope.activations.channel_check import check_channels, owned_warning
from refusalscope.activations.moments import Moments
from refusalscope.results.estimator_records import BESIDE


def moments(means: list[float], variances: list[float]) -> Moments:
    """At position -1 of two layers, the first of which does not vary."""
    zero = torch.ones(len(means), dtype=torch.float64)
    return Moments(
        means=torch.stack([zero, torch.tensor(means, dtype=torch.float64)])[None],
        variances=torch.stack([0 * zero, torch.tensor(variances, dtype=torch.float64)])[None],
        kept=(True,) * 4,
    )


def checked(harmful_of_second: float) -> tuple[Moments, Moments]:
    variances = [1.0, 4.0, 9.0, 1e6, 1.0]
    harmless = moments([1.0, 2.0, -3.0, 1000.0, 2.0], variances)
    return moments([2.0, 1.0, -3.0, harmful_of_second, 2.0], variances), harmless


def test_the_row_of_a_place_is_what_its_words_say() -> None:
    harmful, harmless = checked(1003.0)
    (row,) = check_channels(harmful=harmful, harmless=harmless, positions=[-1])
    assert (row.position, row.layer, row.channel) == (-1, 1, 3)
    assert row.share == pytest.approx(9 / 11)
    assert row.ratio == pytest.approx(1000 / 2)
    assert (row.n_loud, row.loud_share) == (1, pytest.approx(9 / 11))
    assert row.spread == pytest.approx(1000 / 2 / 5**0.5)
    assert row.owns
    assert tuple(row.cosines) == BESIDE
    assert row.cosines["masked"] == pytest.approx((2 / 11) ** 0.5)
    assert row.cosines["discriminant"] is not None
    assert row.cosines["discriminant"] < 0.5


def test_an_estimate_that_is_zero_has_no_cosine() -> None:
    _, harmless = checked(0)
    means = harmless.means.clone()
    means[0, 1, 3] += 3
    only_loud = Moments(means=means, variances=harmless.variances, kept=harmless.kept)
    (row,) = check_channels(harmful=only_loud, harmless=harmless, positions=[-1])
    assert row.share == 1
    assert row.cosines["masked"] is None
    assert row.cosines["discriminant"] == pytest.approx(1)


def test_an_estimate_that_is_not_defined_is_said_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harmful, harmless = checked(1003.0)
    still = [
        Moments(means=own.means, variances=0 * own.variances, kept=own.kept)
        for own in (harmful, harmless)
    ]
    with caplog.at_level(logging.WARNING):
        (row,) = check_channels(harmful=still[0], harmless=still[1], positions=[-1])
    assert row.cosines["discriminant"] is None
    assert row.spread is None
    assert row.cosines["masked"] is not None
    assert "the discriminant estimate is not compared: no channel varies" in caplog.text


def test_the_warning_counts_places_and_says_what_to_do() -> None:
    harmful, harmless = checked(1003.0)
    rows = check_channels(harmful=harmful, harmless=harmless, positions=[-1])
    (text,) = owned_warning(rows, "difference_in_means")
    assert re.search(r"at 1 of 1 places .* layer 1: channel 3 is 82% of it", text)
    assert "500 times the median magnitude" in text
    assert "compare --estimator masked and discriminant" in text
    (text,) = owned_warning(rows, "masked")
    assert "made by another estimator (masked)" in text


def test_without_an_owner_there_is_no_warning() -> None:
    harmful, harmless = checked(1001.0)
    rows = check_channels(harmful=harmful, harmless=harmless, positions=[-1])
    assert rows[0].share == pytest.approx(1 / 3)
    assert owned_warning(rows, "difference_in_means") == ()

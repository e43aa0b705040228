"""What a text says of two decoders: that they agree, that they do not, or nothing yet."""

import pytest
import torch

from suites.decoder_agreement import Reading, loss

WINDOWS = [[(start + step * step) % 7 for step in range(12)] for start in range(9)]
LOGITS = torch.randn(12, 7, generator=torch.Generator().manual_seed(0)) * 3


def read(shifts):
    """The second run is the first with the likelihoods of each window's tokens off by a factor."""
    reading = Reading()
    for window, shift in zip(WINDOWS, shifts, strict=True):
        changed = LOGITS.clone()
        changed[:-1].scatter_add_(1, torch.tensor(window)[1:, None], torch.full((11, 1), shift))
        reading.read(window, lambda _, changed=changed: changed, lambda _: LOGITS)
    return reading


def test_the_same_logits_agree_exactly():
    reading = read([0.0] * 9)
    assert reading.difference.value == 0.0
    assert reading.size.high == 0.0
    assert reading.tells
    assert reading.tokens == 9 * 12


def test_a_bias_is_told_from_noise():
    biased, noisy = read([0.05, 0.06, 0.04] * 3), read([0.05, -0.05, 0.01] * 3)
    assert biased.tells
    assert biased.size.low > 1e-3
    assert biased.difference.high < 0  # its perplexity is lower
    assert not noisy.tells
    assert noisy.size.low == 0.0


def test_noise_far_below_the_target_agrees():
    assert read([1e-5, -1e-5, 2e-5] * 3).tells


@pytest.mark.parametrize(
    ("ours", "complaint"),
    [(LOGITS[:5], "shape"), (LOGITS * torch.nan, "finite")],
)
def test_what_cannot_be_compared_is_refused(ours, complaint):
    with pytest.raises(AssertionError, match=complaint):
        Reading().read(WINDOWS[0], lambda _: ours, lambda _: LOGITS)


@pytest.mark.parametrize(
    ("off", "rounding", "drift"), [(0.0, 0.1, 0.0), (0.2, 0.1, 2.0), (0.5, 0.1, 5.0), (torch.nan, 0.1, torch.nan)]
)
def test_two_runs_may_be_as_far_apart_as_roundings(off, rounding, drift):
    reading = Reading()
    for window in WINDOWS[:2]:
        reading.read(window, lambda _: LOGITS, lambda _: LOGITS)
        reading.apart.append(off**2)
        reading.rounding.append(rounding**2)
    assert reading.drift == pytest.approx(drift, nan_ok=True)
    if drift <= 4:
        reading.hold_drift()
    else:
        with pytest.raises(AssertionError, match="another model"):
            reading.hold_drift()


def test_how_far_rounding_goes_is_measured_where_it_is_asked_for():
    reading = Reading()
    reading.read(WINDOWS[0], lambda _: LOGITS + 0.5, lambda _: LOGITS, lambda _: LOGITS - 0.25)
    reading.read(WINDOWS[1], lambda _: LOGITS, lambda _: LOGITS)
    assert reading.apart == [pytest.approx(0.25)]
    assert reading.rounding == [pytest.approx(0.0625)]
    assert reading.drift == pytest.approx(2.0)


def test_the_loss_is_that_of_torch():
    expected = torch.nn.functional.cross_entropy(LOGITS[:-1].double(), torch.tensor(WINDOWS[0])[1:])
    assert loss(LOGITS, WINDOWS[0]) == pytest.approx(float(expected))

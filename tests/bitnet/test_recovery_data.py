import dataclasses

import pytest
import torch

from bitnet.calibration import CalibrationReport, calibration_samples
from bitnet.compensation_text import CompensationText
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.phase_controller import load
from bitnet.phase_state import Calibration
from bitnet.recovery_data import recovery_key, recovery_samples
from tests.bitnet.phase4 import SETTINGS, write_model, write_texts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recovery")
    return load(str(write_model(folder / "model")), folder / "out", Phase4Config(**SETTINGS, **write_texts(folder)))


def with_settings(run, **settings):
    return dataclasses.replace(run, config=run.config.model_copy(update=settings))


def calibration(run):
    samples = calibration_samples(run.loaded.tokenizer, run.calibration_text.content, 40, 16, 0)
    return Calibration(samples, None, CalibrationReport("text", 40, len(samples), samples.numel()))


def test_training_reads_as_much_as_calibration_in_longer_windows(run):
    calibrated = calibration(run)
    training, _ = recovery_samples(with_settings(run, fine_tune_tokens=64), calibrated)
    assert training.shape == (calibrated.samples.numel() // 64, 64)


@pytest.mark.parametrize("tokens", [16, 10**6])
def test_calibrations_samples_serve_where_windows_are_as_long_or_the_text_too_short(run, tokens):
    calibrated = calibration(run)
    run.loaded.model.config.max_position_embeddings, before = 10**7, run.loaded.model.config.max_position_embeddings
    try:
        assert recovery_samples(with_settings(run, fine_tune_tokens=tokens), calibrated)[0] is calibrated.samples
    finally:
        run.loaded.model.config.max_position_embeddings = before


def test_no_window_is_longer_than_the_model_has_positions(run):
    positions = run.loaded.model.config.max_position_embeddings
    assert recovery_samples(with_settings(run, fine_tune_tokens=10**6), calibration(run))[0].shape[1] == positions


def test_selection_reads_text_of_the_model_that_training_has_not_seen(run):
    calibrated = calibration(run)
    training, selection = recovery_samples(run, calibrated)
    assert torch.equal(recovery_samples(run, calibrated)[1], selection)
    assert selection.shape == (16, min(training.shape[1], 128))
    short = with_settings(run, fine_tune_tokens=16)  # training reads what calibration has read
    training, selection = recovery_samples(short, calibrated)
    leaked = torch.cat([selection[:3], training])
    assert torch.equal(recovery_samples(short, dataclasses.replace(calibrated, samples=leaked))[1], selection[3:])
    assert not len(recovery_samples(short, dataclasses.replace(calibrated, samples=selection))[1])


def compensated(run, **changed):
    """Calibration for a compensation that has read text of the model's own."""
    read = CompensationText(torch.zeros(2, 16, dtype=torch.int64), "a source", written=True)
    return dataclasses.replace(calibration(run), **{"compensation": read} | changed)


@pytest.mark.parametrize("tokens", [16, 64])
def test_windows_of_the_calibration_text_select_where_compensation_has_read_text_of_the_model(run, tokens):
    chosen, calibrated = with_settings(run, fine_tune_tokens=tokens), compensated(run)
    training, selection = recovery_samples(chosen, calibrated)
    everything, _ = recovery_samples(chosen, calibration(run))
    assert len(training) < len(everything)
    assert torch.equal(torch.cat([training, selection.reshape(-1, tokens)]), everything)
    assert 0 < selection.numel() <= everything.numel() / 5


@pytest.mark.parametrize("read", [slice(0, 20), slice(-20, None)], ids=["the beginning of a part", "the end of one"])
def test_windows_that_compensation_has_read_as_well_do_not_select(run, read):
    chosen = with_settings(run, fine_tune_tokens=64)
    training, selection = recovery_samples(chosen, compensated(run))
    tokens = torch.full((2, 40), run.loaded.model.config.vocab_size, dtype=torch.int64)
    tokens[1, 10:30] = selection[1, read]
    also = CompensationText(tokens, "both", written=True)
    less, kept = recovery_samples(chosen, compensated(run, compensation=also))
    assert torch.equal(less, training)
    assert torch.equal(kept, selection[[index for index in range(len(selection)) if index != 1]])


@pytest.mark.parametrize(
    "changed",
    [
        {"compensation": CompensationText(torch.zeros(2, 16, dtype=torch.int64), "a text")},
        {"reconstruction": torch.zeros(2, 16, dtype=torch.int64)},
    ],
    ids=["compensation has read the calibration text", "so has reconstruction"],
)
def test_text_of_the_model_selects_where_the_calibration_text_was_fitted_to(run, changed):
    expected = recovery_samples(run, calibration(run))
    for samples, own in zip(recovery_samples(run, compensated(run, **changed)), expected, strict=True):
        assert torch.equal(samples, own)


def test_text_of_the_model_selects_where_training_can_spare_no_window(run):
    few = compensated(run, samples=calibration(run).samples[:4])
    training, selection = recovery_samples(with_settings(run, fine_tune_tokens=16), few)
    assert len(training) == 4
    assert selection.shape[0] == 16


def test_the_key_changes_with_everything_that_decides_the_outcome(run):
    trainable = CompressedModel.from_model(run.loaded.model, run.config)
    training = calibration(run).samples
    key = recovery_key(trainable, training, training[:2])
    assert recovery_key(trainable, training, training[:2]) == key
    others = [recovery_key(trainable, training[1:], training[:2]), recovery_key(trainable, training, training[:1])]
    seeded = dataclasses.replace(trainable, config=trainable.config.model_copy(update={"seed": 9}))
    others.append(recovery_key(seeded, training, training[:2]))
    with torch.no_grad():
        next(trainable.model.parameters()).view(-1)[0] += 1
    others.append(recovery_key(trainable, training, training[:2]))
    assert len({key, *others}) == 5

import dataclasses

import pytest
import torch

from bitnet.calibration import CalibrationReport, calibration_samples
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.phase_controller import load
from bitnet.phase_state import Calibration
from bitnet.recovery_data import recovery_key, selection_samples, training_samples
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
    training = training_samples(with_settings(run, fine_tune_tokens=64), calibrated)
    assert training.shape == (calibrated.samples.numel() // 64, 64)


@pytest.mark.parametrize("tokens", [16, 10**6])
def test_calibrations_samples_serve_where_windows_are_as_long_or_the_text_too_short(run, tokens):
    calibrated = calibration(run)
    run.loaded.model.config.max_position_embeddings, before = 10**7, run.loaded.model.config.max_position_embeddings
    try:
        assert training_samples(with_settings(run, fine_tune_tokens=tokens), calibrated) is calibrated.samples
    finally:
        run.loaded.model.config.max_position_embeddings = before


def test_no_window_is_longer_than_the_model_has_positions(run):
    positions = run.loaded.model.config.max_position_embeddings
    assert training_samples(with_settings(run, fine_tune_tokens=10**6), calibration(run)).shape[1] == positions


def test_selection_reads_text_of_the_model_that_training_has_not_seen(run):
    calibrated = calibration(run)
    training = training_samples(run, calibrated)
    selection = selection_samples(run, training, calibrated)
    again = selection_samples(run, training, calibrated)
    assert torch.equal(selection, again)
    assert selection.shape == (16, min(training.shape[1], 128))
    leaked = torch.cat([selection[:3], training[:, : selection.shape[1]]])
    assert torch.equal(selection_samples(run, leaked, calibrated), selection[3:])
    other = dataclasses.replace(calibrated, samples=selection[:1])
    assert torch.equal(selection_samples(run, leaked, other), selection[3:])
    assert not len(selection_samples(run, selection, calibrated))


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

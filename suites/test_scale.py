"""Models larger than memory, and training by several processes: what grows with the size, and what must not."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from typing import Final

import pytest
import torch
from safetensors import safe_open

from harness.evidence import Evidence
from harness.statistics import ratio_interval
from harness.subject import CompressesModels, StreamsModels, Subject, TrainsTogether, require
from harness.texts import held_out_text
from suites.fixtures_small import SmallCompression
from suites.launched_training import Training, train, train_alone
from suites.process_costs import Cost, FreshProcess, compress_in_fresh_process
from suites.sharded_models import ShardedModel, save_sharded_llama
from suites.small_models import byte_tokenizer

MIB: Final = 2**20
WIDTH, FEW_BLOCKS, MANY_BLOCKS = 256, 3, 12
"""Of the small models: 2 and 9 million parameters, in shards of 4 MiB."""
ROUNDS: Final = 5
SIZES: Final = {"10M": (256, 13), "100M": (768, 17), "1B": (2048, 20)}
"""Width and blocks; the last one takes 2 GB on the disk, and the two outputs 2.3 GB."""
REPETITIONS: Final = {"10M": 3, "100M": 3, "1B": 1}
SHARD: Final = 400 * MIB
ALLOWANCE: Final = 1024 * MIB
"""Beside 1.5 times the largest shard: half of it is what Python, torch and transformers take."""
SAMPLES, TOKENS, STEPS, STOPPED_AFTER = 10, 24, 6, 5

full_profile = pytest.mark.profile("full")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardedModel, ShardedModel]:
    """Two models of the same layers, one with four times as many of them."""
    folder = tmp_path_factory.mktemp("sharded")
    few, many = (save_sharded_llama(folder / str(n), WIDTH, n, 4 * MIB) for n in (FEW_BLOCKS, MANY_BLOCKS))
    return few, many


@pytest.fixture(scope="module")
def costs(
    subject: Subject,
    sharded: tuple[ShardedModel, ShardedModel],
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Cost], list[Cost]]:
    """Costs of compressing either, in turns in one fresh process, after a first time that does not count."""
    require(subject, StreamsModels)
    place = tmp_path_factory.mktemp("streamed")

    def cost(model: ShardedModel) -> Cost:
        out = place / "out"
        found = process.compress(model.folder, out)
        shutil.rmtree(out)
        return found

    few, many = sharded
    with FreshProcess(pytestconfig.getoption("--subject"), exact=True) as process:
        cost(few)
        pairs = [(cost(few), cost(many)) for _ in range(ROUNDS)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@pytest.mark.criterion("A.scale-memory")
def test_a_longer_model_takes_no_more_memory(
    sharded: tuple[ShardedModel, ShardedModel], costs: tuple[list[Cost], list[Cost]], evidence: Evidence
) -> None:
    """Peaks over what was resident before, medians of the rounds."""
    (few, many), (short, long) = sharded, costs
    grown = median(cost.growth for cost in long) - median(cost.growth for cost in short)
    evidence.figure("peak_bytes_per_stored_byte", grown / (many.stored - few.stored))
    evidence.figure("peak_of_the_longer_model", median(cost.growth for cost in long), "bytes")


@pytest.mark.criterion("A.scale-memory")
def test_every_weight_is_written_in_three_values(
    subject: Subject, sharded: tuple[ShardedModel, ShardedModel], tmp_path: Path
) -> None:
    """All tensors of the model are there, and each row of a projection has one magnitude and zero."""
    plain = require(subject, StreamsModels).compress_streamed(sharded[0].folder, tmp_path / "out")
    assert names(plain) == names(sharded[0].folder)
    for file in plain.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - not a mapping
                if name.endswith("_proj.weight"):
                    magnitudes = [len(row.abs().unique()) for row in stored.get_tensor(name)[:4]]
                    assert max(magnitudes) <= 2, f"{name} is not ternary"


@pytest.mark.criterion("A.scale-cost")
def test_a_parameter_of_a_longer_model_costs_no_more(
    sharded: tuple[ShardedModel, ShardedModel], costs: tuple[list[Cost], list[Cost]], evidence: Evidence, seed: int
) -> None:
    """Medians of the rounds, with a bootstrap interval."""
    short, long = (
        [cost.seconds / model.parameters for cost in each] for model, each in zip(sharded, costs, strict=True)
    )
    ratio = ratio_interval(long, short, seed=seed)
    evidence.figure("cost_growth", ratio.value, "x", interval=(ratio.low, ratio.high), timing=True)
    evidence.figure("nanoseconds_per_parameter", 1e9 * min(long), "ns", timing=True)


@pytest.fixture(scope="module")
def by_size(
    subject: Subject, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[ShardedModel, list[Cost]]]:
    """Models up to a billion parameters, and what fresh processes take for them; nothing stays on the disk."""
    require(subject, StreamsModels)
    found = {}
    for name, (width, blocks) in SIZES.items():
        place = tmp_path_factory.mktemp(name)
        model = save_sharded_llama(place / "model", width, blocks, SHARD)
        runs = []
        for number in range(REPETITIONS[name]):
            out = place / f"out{number}"
            runs.append(compress_in_fresh_process(pytestconfig.getoption("--subject"), model.folder, out))
            shutil.rmtree(out)
        shutil.rmtree(place)
        found[name] = (model, runs)
    return found


@full_profile
@pytest.mark.criterion("A.scale-memory-1b")
def test_a_billion_parameters_fit(by_size: dict[str, tuple[ShardedModel, list[Cost]]], evidence: Evidence) -> None:
    """The whole process counts."""
    model, runs = by_size["1B"]
    peak, bound = max(run.peak for run in runs), 1.5 * max(model.shards) + ALLOWANCE
    evidence.figure("peak_over_bound", peak / bound, "x")
    evidence.figure("peak", peak, "bytes")
    evidence.figure("largest_shard", max(model.shards), "bytes")
    evidence.figure("stored", model.stored, "bytes")


@full_profile
@pytest.mark.criterion("A.scale-cost-1b")
def test_a_parameter_costs_the_same_at_a_billion(
    by_size: dict[str, tuple[ShardedModel, list[Cost]]], evidence: Evidence
) -> None:
    """Seconds per parameter at 1B over the median at 100M; the interval is over the runs at 100M."""
    nanoseconds = {
        name: sorted(1e9 * run.seconds / model.parameters for run in runs) for name, (model, runs) in by_size.items()
    }
    middle = {name: values[len(values) // 2] for name, values in nanoseconds.items()}
    most = nanoseconds["1B"][-1]
    interval = (most / nanoseconds["100M"][-1], most / nanoseconds["100M"][0])
    evidence.figure("cost_growth_1b", most / middle["100M"], "x", interval=interval, timing=True)
    evidence.attach(
        "cost",
        {
            "plot": "line",
            "title": "What a parameter costs, by the size of the model",
            "x": [model.parameters for model, _ in by_size.values()],
            "y": {"compressed layer by layer": list(middle.values())},
            "intervals": {"compressed layer by layer": [[values[0], values[-1]] for values in nanoseconds.values()]},
            "x_label": "parameters",
            "y_label": "processor nanoseconds a parameter",
            "x_scale": "log",
            "limits": {"1.5 times that of 100M": 1.5 * middle["100M"]},
            "timing": True,
        },
    )


@pytest.mark.criterion("A.scale-data-parallel")
def test_two_processes_reach_the_loss_of_one(
    subject: Subject,
    small_compression: SmallCompression,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    evidence: Evidence,
) -> None:
    """The same batches, in one process and in two; then once more with an interruption."""
    require(subject, TrainsTogether)
    require(subject, CompressesModels)
    tokens = byte_tokenizer().encode(held_out_text()[: 2 * SAMPLES * TOKENS])[: SAMPLES * TOKENS]
    samples = torch.tensor(tokens).reshape(SAMPLES, TOKENS)
    packed, spec = small_compression.outcome.packed, pytestconfig.getoption("--subject")
    alone = train_alone(subject, packed, samples, STEPS, tmp_path / "one")
    whole, resumed = train(spec, packed, samples, STEPS, STOPPED_AFTER, tmp_path / "two", 2)
    assert alone.losses[-1] != alone.losses[0], "nothing was trained"
    evidence.figure("loss_difference", max(difference(each, alone) for each in whole))
    evidence.figure("resumed_difference", max(difference(each, whole[0]) for each in resumed))
    for name, value in whole[0].parameters.items():
        assert torch.equal(value, whole[1].parameters[name]), f"the two processes end with another {name}"


def difference(one: Training, other: Training) -> float:
    """The largest relative difference of a loss."""
    return max(abs(a - b) / abs(b) for a, b in zip(one.losses, other.losses, strict=True))


def names(folder: Path) -> set[str]:
    """Names of all tensors in a folder."""
    found: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            found |= set(stored.keys())
    return found

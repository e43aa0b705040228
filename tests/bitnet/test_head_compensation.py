import pytest
import torch

from bitnet.compensation import Statistics
from bitnet.head_compensation import DAMPING, compensated_table
from bitnet.tables import decode_table, encode_table


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


@pytest.fixture
def table(generator):
    return torch.randn(200, 70, generator=generator) * torch.logspace(-3, 2, 200)[:, None]


@pytest.fixture
def inputs(generator):
    """Inputs most of which is one direction, as a head has them."""
    return torch.randn(500, 70, generator=generator) + 3 * torch.randn(70, generator=generator)


def statistics(inputs):
    return Statistics.of(inputs.T @ inputs / len(inputs), None, DAMPING)


@pytest.mark.parametrize("dtype", ["int6", "int8"])
def test_the_values_are_stored_as_they_are(table, inputs, dtype):
    made = compensated_table(table, statistics(inputs), dtype)
    stored = decode_table(encode_table("t", made, dtype), 70)
    assert torch.equal(stored.view(torch.int32), made.view(torch.int32))  # zeros have a sign


def test_the_outputs_are_nearer_than_those_of_the_nearest_codes(table, inputs):
    nearest = decode_table(encode_table("t", table, "int6"), 70)
    made = compensated_table(table, statistics(inputs), "int6")
    lost, lost_by_rounding = (((x - table) @ inputs.T).square().mean(dim=1) for x in (made, nearest))
    # One direction has nine tenths of the inputs' energy, and errors can be kept out of it.
    assert float((lost / lost_by_rounding).mean()) < 0.4
    assert float((made - table).norm() / table.norm()) < 4 * float((nearest - table).norm() / table.norm())


def test_inputs_without_a_direction_leave_the_nearest_codes(table):
    made = compensated_table(table, Statistics.of(torch.eye(70), None, DAMPING), "int6")
    assert torch.equal(made, decode_table(encode_table("t", table, "int6"), 70))


def test_zero_rows_stay_zero(inputs):
    assert torch.equal(compensated_table(torch.zeros(3, 70), statistics(inputs), "int6"), torch.zeros(3, 70))


def test_many_rows_are_rounded_as_few_are(inputs, monkeypatch, table):
    whole = compensated_table(table, statistics(inputs), "int6")
    monkeypatch.setattr("bitnet.head_compensation._ROWS", 64)
    assert torch.allclose(compensated_table(table, statistics(inputs), "int6"), whole, atol=0, rtol=1e-6)

import numpy as np
import pytest
from safetensors.numpy import save_file

from bitnet.dashboard.layers import scale_histogram
from bitnet.errors import BitnetError
from tests.bitnet.dashboard.made_up import LAYERS, write_run


def test_every_scale_is_counted_once_for_its_plane(tmp_path):
    bars = scale_histogram(write_run(tmp_path / "out") / "packed", LAYERS[0])
    for plane, values in ((1, [0.1, 0.2, 0.2, 0.4]), (2, [0.01, 0.02, 0.03, 0.04])):
        own = [bar for bar in bars if bar.plane == plane]
        assert sum(bar.count for bar in own) == 4
        for value in np.float16(values):
            assert any(bar.count and bar.low <= value <= bar.high for bar in own)


def test_bytes_count_in_units_of_a_power_of_two_for_each_row(tmp_path):
    tensors = {
        "a.scale": np.array([[[3], [5]]], dtype=np.uint8),
        "a.scale_exponent": np.array([-2, 1], dtype=np.int8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    filled = [bar for bar in scale_histogram(tmp_path, "a") if bar.count]
    assert (filled[0].low, filled[-1].high) == (0.75, 10.0)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BitnetError, match=r"model\.safetensors"):
        scale_histogram(tmp_path, "a")
    with pytest.raises(BitnetError, match="no scales of 'a'"):
        scale_histogram(write_run(tmp_path / "out") / "packed", "a")

import subprocess
import sys

WITHOUT_COMPILED_MODULE = """
import importlib.util, sys, warnings
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.endswith("._native") else find(name, *rest)
import torch
from bitnet.kernels import PreparedWeight, backend, backends
from bitnet.quantizer import TernaryWeight
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    names = backends(), backend(), backend()
    weight = PreparedWeight.from_ternary([TernaryWeight(torch.ones(2, 3, dtype=torch.int8), torch.ones(1, 1))])
print(names, weight.backend, weight(torch.ones(3)).tolist(), [str(w.message)[:51] for w in caught])
"""


def test_without_the_compiled_module_torch_is_used_named_and_warned_of_once():
    run = subprocess.run([sys.executable, "-c", WITHOUT_COMPILED_MODULE], capture_output=True, text=True, check=True)
    expected = (
        "(('torch',), 'torch', 'torch') torch [3.0, 3.0] ['bitnet was installed without its native kernels (no']\n"
    )
    assert run.stdout == expected

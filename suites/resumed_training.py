"""Go on with an interrupted fine-tuning in a new interpreter, which shares nothing with the one that began it.

Run as a program, this file lets a subject fine-tune from the state in a folder and writes the parameters that come out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def resume_in_fresh_process(spec: str, packed: Path, samples: Tensor, steps: int, folder: Path) -> dict[str, Tensor]:
    """The parameters of `ResumesFineTuning.fine_tune_resumably` by the subject `spec` in a new process.

    An AssertionError carries the last line of a process that failed.
    """
    import torch
    from safetensors.torch import load_file, save_file

    given, output = (folder.with_name(f"{folder.name}-{name}.safetensors") for name in ("samples", "parameters"))
    save_file({"samples": samples}, given)
    # A subject's file may import from wherever this process does.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONHASHSEED", None)  # another order of sets than here
    words = [spec, str(packed), str(given), str(steps), str(folder), str(output), str(torch.get_num_threads())]
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__)), *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    assert done.returncode == 0, f"the training cannot be resumed in a fresh process: {last}"
    return load_file(output)


def main(spec: str, packed: str, given: str, steps: str, folder: str, output: str, threads: str) -> None:
    """Write the parameters of the resumed training."""
    import torch
    from safetensors.torch import load_file, save_file

    from harness.subject import ResumesFineTuning, load_subject, require

    torch.set_num_threads(int(threads))
    subject = require(load_subject(spec), ResumesFineTuning)
    model = subject.fine_tune_resumably(Path(packed), load_file(given)["samples"], int(steps), Path(folder), None)
    assert model is not None, "the training has stopped without being told to"
    save_file({name: parameter.detach().clone() for name, parameter in model.named_parameters()}, output)


if __name__ == "__main__":
    main(*sys.argv[1:])

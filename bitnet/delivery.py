"""Stage 7: write both artefacts, measure what was written, decide the gates and hand over."""

from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Int64
from torch import Tensor

from bitnet.artifacts import load_packed, load_trainable, save_fp16, save_packed
from bitnet.compressed_model import CompressedModel
from bitnet.dual_output import compare, load_fp16, windows
from bitnet.errors import BitnetError
from bitnet.gradient_flow import GradientFlow, gradient_flow
from bitnet.handoff_phase5 import phase5_manifest, save_phase5
from bitnet.memory import give_back
from bitnet.outcome import Outcome
from bitnet.perplexity import PerplexityResult, encode
from bitnet.phase_state import Calibration, Recovery, Run
from bitnet.progress import Advance, Stages
from bitnet.registry import register
from bitnet.result import Phase4Result, VerificationRow, finite, save_result
from bitnet.sizes import sizes
from bitnet.tracking import track
from bitnet.verify import TOLERANCE, record, verify_in_fresh_process

#: The artefacts' predictions are compared on so many tokens of the evaluation text at most.
AGREEMENT_TOKENS = 4096
#: Calibration samples whose loss is backpropagated by the gradient-flow test.
GRADIENT_SAMPLES = 2


def deliver(
    run: Run,
    calibration: Calibration,
    before: PerplexityResult,
    after: PerplexityResult,
    recovery: Recovery,
    errors: Mapping[str, float | None],
    directory: Path,
    stages: Stages,
    progress: Advance,
) -> Phase4Result:
    """Write everything into the empty folder `directory` and return what its `result.json` says.

    `errors` are `weight_errors`; the full-precision weights themselves are not needed any more. Those of `recovery`
    go as soon as they are written.
    """
    packed, fp16 = directory / "packed", directory / "fp16"
    streamed = run.loaded.streamed
    zero_fraction = recovery.packed.zero_fraction
    if streamed:  # the artefacts have been written, layer by layer
        _record_streamed(run, directory)
    else:
        _write_artefacts(run, recovery.packed, directory)
        # What follows looks at the artefacts, and needs the memory.
        recovery.packed.model.to("meta")
    tokens = encode(run.loaded.tokenizer, run.evaluation_text.content)
    limit = min(AGREEMENT_TOKENS, run.config.evaluation_tokens or AGREEMENT_TOKENS)
    outcome = Outcome(
        run=run,
        calibration=calibration,
        before=before,
        after=after,
        recovery=recovery,
        flow=_artefact_gradients(packed, calibration.samples[:GRADIENT_SAMPLES], streamed),
        dual=compare(packed, fp16, windows(tokens, run.config.context_length, limit), progress, streamed),
        sizes=sizes(run.parameters, packed, fp16),
        verification=_verification(directory, streamed),
        weight_errors=errors,
        zero_fraction=zero_fraction,
    )
    result = _save(directory, track(outcome.result(packed, stages.rows), directory))
    registered = register(result, directory)
    return result if registered == result else _save(directory, registered)


def _save(directory: Path, result: Phase4Result) -> Phase4Result:
    save_result(directory, result)
    save_phase5(directory, phase5_manifest(directory, result))
    return result


def _write_artefacts(run: Run, packed: CompressedModel, directory: Path) -> None:
    """Write packed/, fp16/ and the record of what both models are now, before anything is read back."""
    (directory / "packed").mkdir()
    (directory / "fp16").mkdir()
    save_packed(packed, run.loaded.tokenizer, directory / "packed")
    plain = packed.dequantized()
    save_fp16(plain, run.loaded.tokenizer, directory / "fp16")
    record(directory, run.loaded.tokenizer, run.evaluation_text.content, packed.model, plain.float())


def _record_streamed(run: Run, directory: Path) -> None:
    """The record of both artefacts as they are on disk: what is in no memory can be compared with nothing else."""
    packed, _ = load_packed(directory / "packed", streamed=True)
    plain, _ = load_fp16(directory / "fp16", streamed=True)
    record(directory, run.loaded.tokenizer, run.evaluation_text.content, packed.model, plain)


def _artefact_gradients(packed: Path, tokens: Int64[Tensor, "batch length"], streamed: bool) -> GradientFlow:
    """Gradient flow through the stored artefact, reloaded in trainable form."""
    give_back()
    trainable = load_trainable(packed, streamed)
    flow = gradient_flow(trainable.model, {name: layer.weight for name, layer in trainable.layers.items()}, tokens)
    del trainable
    give_back()
    return flow


def _verification(directory: Path, streamed: bool) -> VerificationRow:
    try:
        found = verify_in_fresh_process(directory, streamed)
    except BitnetError as error:
        return VerificationRow(
            positions=0,
            packed_difference=None,
            fp16_difference=None,
            tolerance=TOLERANCE,
            reproduced=False,
            error=str(error),
        )
    return VerificationRow(
        positions=found.positions,
        packed_difference=finite(found.packed_difference),
        fp16_difference=finite(found.fp16_difference),
        packed_identical=found.packed_identical,
        fp16_identical=found.fp16_identical,
        tolerance=found.tolerance,
        reproduced=found.reproduced,
    )

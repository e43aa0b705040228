"""Phase 4 from a full-precision model to two verified artefacts, in seven stages.

1 load and validate, 2 evaluate, 3 calibrate, 4 compress, 5 evaluate again, 6 recover if triggered, 7 hand over (see
`bitnet.delivery`). Everything is written beside the output folder and renamed into place at the end.
"""

import datetime
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel

from bitnet.calibration import CalibrationReport, calibration_samples, second_moments
from bitnet.checkpoint import clear_leftovers, discard_work, work_folder
from bitnet.compensation_text import compensation_text, reconstruction_text
from bitnet.compressed_model import layer_plan
from bitnet.compressor import Compression, compress, starting_planes
from bitnet.config import Phase4Config
from bitnet.deadline import Deadline
from bitnet.delivery import deliver
from bitnet.errors import BitnetError
from bitnet.fallbacks import Attempt, Chain
from bitnet.fine_tuner import mean_loss, recover
from bitnet.handoff import phase3_manifest
from bitnet.models import LoadedModel, check_weights, count_parameters, load_model, stream_model
from bitnet.outcome import weight_errors
from bitnet.perplexity import PerplexityResult, encode, perplexity
from bitnet.phase_state import Calibration, Recovery, Run, Text
from bitnet.progress import Advance, Stages
from bitnet.progress_file import ProgressFile, finished_result
from bitnet.quality import recovery_triggered
from bitnet.recovery_checkpoint import Checkpoints
from bitnet.recovery_data import recovery_key, recovery_samples
from bitnet.result import RESULT, FallbackRow, Phase4Result, load_result
from bitnet.smoothing import PASSAGES, smooth
from bitnet.streamed_compressor import compress_streamed, streamable_settings, streams
from bitnet.text import heldout_text, read_text, training_text
from bitnet.verify import weights_digest
from bitnet.workers import Workers

#: Fewer evaluation tokens than this decide no gate.
MINIMUM_EVALUATION_TOKENS = 128
#: Bytes of logits that an evaluation batch may have; one window may have more.
LOGITS = 2**26


def run_phase4(
    source: str, out: Path, config: Phase4Config, progress: bool = True, force: bool = False
) -> Phase4Result:
    """Compress the model `source` into `out`/packed and `out`/fp16, with `out`/result.json and `out`/manifest.json.

    Missed gates are part of the result, not an error. On any error, and on Ctrl-C, nothing is left at `out` that was
    not there before but layers and checkpoints of recovery beside it, from which the same run, started again, goes on;
    it also tidies up what a run that was killed has left. Where the same run had put everything at `out` before it was
    killed, nothing is left to do, and the result is the one that stands there.

    Args:
        source: a model folder, a .gguf file, a hub id or a built-in name.
        force: replace `out` if it holds an earlier run.

    Raises:
        BitnetError: bad input, told in one sentence.
    """
    workers = Workers.current()
    workers.check(config)
    with workers.exclusive(out):
        clear_leftovers(out)
        result = None if force else finished_result(out, command_line(source, out, config))
        if result is None:
            check_output(out, force, [source, config.calibration_text, config.evaluation_text])
            result = _run(source, out, config, work_folder(out), progress, workers)
        elif progress and workers.first:
            print(f"{out} was complete when the run was ended: this is its result.", file=sys.stderr)
        workers.wait()  # all have seen the work folder
        if workers.first:
            discard_work(out)
    workers.wait()
    return load_result(out) if result is None else result


def _run(
    source: str, out: Path, config: Phase4Config, work: Path, progress: bool, workers: Workers
) -> Phase4Result | None:
    """The seven stages, the last one in the first process alone; `work` is where what lets them go on is kept."""
    started = time.monotonic()
    told = ProgressFile(out, command_line(source, out, config)) if workers.first else None
    with workers.output(out) as temporary, Stages(7, progress and workers.first, told) as stages:
        with stages.stage("load and validate"):
            run = load(source, out, config)
        with stages.stage("evaluate before") as advance:
            before = evaluate(run, run.loaded.model, advance)
        with stages.stage("calibrate") as advance:
            calibration = calibrate(run, advance)
        with stages.stage("compress") as advance:
            if run.loaded.streamed:
                made = compress_streamed(run, calibration, temporary, advance)
            else:
                kept = work if workers.first else temporary
                made = compress(run, calibration, kept, advance, starting_planes(run, calibration))
        with stages.stage("evaluate after") as advance:
            after = evaluate(run, made.packed.model, advance)
        with stages.stage("recover") as advance:
            recovery = recover_if_triggered(run, made, calibration, before, after, advance, work, workers)
            layers = made.layers
            del made  # a further attempt needs the memory
            if config.max_minutes is not None:
                after, recovery = follow_chain(
                    Attempt("as configured", run, layers, after, recovery), calibration, before, started, advance, work
                )
        if not workers.first:
            return None
        errors = weight_errors(run.loaded.model, recovery.packed)
        # Nothing after this needs the full-precision weights, or what compensation has found.
        del layers
        run.loaded.model.to("meta")
        with stages.stage("hand over") as advance:
            result = deliver(run, calibration, before, after, recovery, errors, temporary, stages, advance)
            assert told is not None  # the first process's
            told.finish(temporary)
    return result


def check_output(out: Path, force: bool, inputs: list[str | Path | None]) -> None:
    """Refuse to replace anything that is not an earlier run, and anything that the run reads from.

    Raises:
        BitnetError: `out` exists and may not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise BitnetError(f"{out} already exists: choose another --out, or pass --force to replace it.")
    if not (out / RESULT).is_file():
        raise BitnetError(f"{out} holds no earlier run (no {RESULT}), so --force does not replace it.")
    for path in inputs:
        if path is not None and Path(path).resolve().is_relative_to(out.resolve()):
            raise BitnetError(f"{path} lies in {out}, which would be replaced: choose another --out.")


def load(source: str, out: Path, config: Phase4Config) -> Run:
    """Stage 1: the model, its manifest, the resolved configuration and two texts that do not overlap."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    streamed = stream_model(source) if streams(source, config) else None
    loaded = streamed or load_model(source)
    if loaded.kind == "packed":
        raise BitnetError(f"{source} is compressed already: give the full-precision model.")
    if out.resolve().is_relative_to(loaded.path.resolve()):
        raise BitnetError(f"{out} lies in the folder of the model {source}: choose another --out.")
    layer_plan(loaded.model)
    check_weights(loaded.model)
    parameters = count_parameters(loaded.model)
    reduced, left_out = streamable_settings(config, parameters) if loaded.streamed else (config, [])
    fitted, shortened = _fit(reduced.resolved(parameters), loaded)
    calibration_text, evaluation_text, chosen = _texts(config)
    _check_length(config, loaded, evaluation_text)
    return Run(
        loaded=loaded,
        config=fitted,
        user_set=tuple(sorted(config.model_fields_set)),
        parameters=parameters,
        phase3=phase3_manifest(source, loaded.path, loaded.tokenizer),
        calibration_text=calibration_text,
        evaluation_text=evaluation_text,
        fallbacks=(*left_out, *shortened, *chosen),
        command=command_line(source, out, config),
        started=started,
    )


def evaluate(run: Run, model: PreTrainedModel, progress: Advance | None = None) -> PerplexityResult:
    """Stages 2 and 5: perplexity and next-token accuracy on the evaluation text."""
    window = 4 * run.config.context_length * int(model.config.vocab_size)  # bytes of its logits
    return perplexity(
        model,
        run.loaded.tokenizer,
        [run.evaluation_text.content],
        run.config.context_length,
        max(1, min(run.config.batch_size, LOGITS // window)),
        run.config.evaluation_tokens,
        progress,
    )


def calibrate(run: Run, progress: Advance) -> Calibration:
    """Stage 3: samples of the calibration text and, for rule "optimal", the second moments that it weighs by.

    Where compensation follows, the model is smoothed in place (`bitnet.smoothing`): it computes what it did.
    """
    config = run.config
    samples = calibration_samples(
        run.loaded.tokenizer,
        run.calibration_text.content,
        config.calibration_samples,
        config.calibration_tokens,
        config.seed,
    )
    text = run.calibration_text
    report = CalibrationReport(text.source, config.calibration_samples, len(samples), samples.numel())
    if config.compensation == "sequential":
        read = compensation_text(run.loaded, config, text.content, text.source, progress)
        smooth(run.loaded.model, read.tokens, config.smoothing)
        more = reconstruction_text(run.loaded, config, text.content, read) if config.reconstruction_steps else None
        return Calibration(samples, None, report, read, more)
    moments = None
    if config.rule == "optimal":
        names = [decision.name for decision in layer_plan(run.loaded.model) if decision.quantized]
        moments = second_moments(run.loaded.model, names, samples, config.batch_size, progress)
    return Calibration(samples, moments, report)


def recover_if_triggered(
    run: Run,
    made: Compression,
    calibration: Calibration,
    before: PerplexityResult,
    after: PerplexityResult,
    progress: Advance,
    work: Path,
    workers: Workers | None = None,
) -> Recovery:
    """Stage 6: fine-tune where perplexity rose by more than `fine_tune_trigger`, unless `fine_tune_steps` is 0.

    Weights are selected by text that nothing was fitted to (`bitnet.recovery_data`); the evaluation text has no say.

    Args:
        made: goes on as it is where recovery does not run.
        work: where checkpoints are kept, each recovery's in a folder of its own, from which the same run goes on if it
            is interrupted.
        workers: the processes that recover the model together; None is this one alone.
    """
    config = run.config
    triggered = recovery_triggered(before.token_perplexity, after.token_perplexity, config.fine_tune_trigger)
    if not triggered or config.fine_tune_steps == 0:
        return Recovery(made.packed, triggered, None, None)
    training, selection = recovery_samples(run, calibration)
    if not len(selection):
        return Recovery(made.packed, triggered, None, None)
    trainable = made.trainable(run.loaded.model)

    def loss() -> float:
        return mean_loss(trainable.packed().model, selection, config.batch_size)

    key = recovery_key(trainable, training, selection)
    checkpoints = Checkpoints(work / "recovery" / key[:24], key, config.checkpoint_steps)
    report = recover(trainable, training, config, loss, progress, run.loaded.model, checkpoints, workers)
    recovered = trainable.packed()
    return Recovery(recovered, triggered, evaluate(run, recovered.model), report)


def follow_chain(
    first: Attempt, calibration: Calibration, before: PerplexityResult, started: float, progress: Advance, work: Path
) -> tuple[PerplexityResult, Recovery]:
    """What `bitnet.fallbacks` makes of a first attempt: the figures after compression, and the recovered model."""
    run = first.run
    assert run.config.max_minutes is not None

    def recover_again(changed: Run, made: Compression, after: PerplexityResult) -> Recovery:
        return recover_if_triggered(changed, made, calibration, before, after, progress, work)

    chain = Chain(before, calibration, work, recover_again, lambda packed: evaluate(run, packed.model))
    key = f"{weights_digest(run.loaded.model)} {run.config.model_dump_json()}"
    deadline = Deadline(work / "deadline.json", key, started + 60 * run.config.max_minutes)
    best = chain.follow(first, deadline, progress)
    told = replace(best.recovery, fallbacks=tuple(chain.rows), attempts=tuple(chain.attempts))
    return best.after, told


def command_line(source: str, out: Path, config: Phase4Config) -> str:
    """The shell command that repeats the run, with every setting that the user gave."""
    settings = [f"--set={override}" for override in config.overrides()]
    return shlex.join(["bitnet", "compress", source, "--out", str(out), *settings])


def _fit(config: Phase4Config, loaded: LoadedModel) -> tuple[Phase4Config, list[FallbackRow]]:
    """Shorten default lengths to the positions that the model has; a length that the user set is refused instead.

    Smoothing is switched off where nothing is known of the architecture's passages.
    """
    positions = int(loaded.model.config.max_position_embeddings)
    long = [name for name in ("context_length", "calibration_tokens") if getattr(config, name) > positions]
    for name in long:
        if name in config.model_fields_set:
            raise BitnetError(f"{name} is {getattr(config, name)}, but the model has {positions} positions: lower it.")
    rows = [
        FallbackRow(step=name, used=f"{positions} tokens", reason="the model has no more positions") for name in long
    ]
    fitted = config.model_copy(update=dict.fromkeys(long, positions))
    kind = str(loaded.model.config.model_type)
    if fitted.smoothing and fitted.compensation == "sequential" and kind not in PASSAGES:
        rows.append(FallbackRow(step="smoothing", used="none", reason=f"it is not known how in models of type {kind}"))
        fitted = fitted.model_copy(update={"smoothing": 0.0})
    return fitted, rows


def _texts(config: Phase4Config) -> tuple[Text, Text, list[FallbackRow]]:
    """Calibration and evaluation text, disjoint, and which of them the standard library had to provide."""
    rows = []
    texts = []
    for setting, default, name in (
        ("calibration_text", training_text, "training"),
        ("evaluation_text", heldout_text, "held-out"),
    ):
        path = getattr(config, setting)
        if path is None:
            texts.append(Text(default(), f"standard library ({name} part)"))
            rows.append(FallbackRow(step=setting, used=texts[-1].source, reason="no text was given"))
        else:
            texts.append(Text(read_text(path), str(path)))
    _check_disjoint(*texts)
    return texts[0], texts[1], rows


def _check_length(config: Phase4Config, loaded: LoadedModel, text: Text) -> None:
    """Refuse to decide gates on a handful of tokens."""
    if config.evaluation_tokens is not None and config.evaluation_tokens < MINIMUM_EVALUATION_TOKENS:
        raise BitnetError(
            f"evaluation_tokens = {config.evaluation_tokens} is too few to decide a gate: "
            f"allow at least {MINIMUM_EVALUATION_TOKENS}."
        )
    if len(encode(loaded.tokenizer, text.content)) < MINIMUM_EVALUATION_TOKENS:
        raise BitnetError(
            f"The evaluation text ({text.source}) is too short: it must have at least "
            f"{MINIMUM_EVALUATION_TOKENS} tokens."
        )


def _check_disjoint(calibration: Text, evaluation: Text) -> None:
    if calibration.record.sha256 == evaluation.record.sha256:
        raise BitnetError(
            f"The calibration text ({calibration.source}) is also the evaluation text ({evaluation.source}): "
            "a model must be evaluated on text that it was not fitted to."
        )
    one, other = (" ".join(text.content.split()) for text in (calibration, evaluation))
    if one in other or other in one:
        raise BitnetError(
            f"The calibration text ({calibration.source}) and the evaluation text ({evaluation.source}) overlap: "
            "a model must be evaluated on text that it was not fitted to."
        )

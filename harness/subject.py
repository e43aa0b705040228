"""What an implementation must offer to be audited: small typed operations, grouped into capabilities.

A *subject* is any object with a `declaration`. It implements the capabilities that it has and leaves out the rest;
a check asks for what it needs with `require(subject, Capability)`, and a missing capability makes that check
*not applicable*: never passed, never failed. The suites hold a subject to what it declares.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from harness.errors import AuditError
from harness.subject_dashboard import ShowsDashboard as ShowsDashboard
from harness.subject_ecosystem import HandsOver as HandsOver
from harness.subject_ecosystem import RegistersModels as RegistersModels
from harness.subject_ecosystem import TracksRuns as TracksRuns
from harness.subject_effort import SparesBits as SparesBits
from harness.subject_faults import Calling as Calling
from harness.subject_faults import EnduresFaults as EnduresFaults
from harness.subject_records import COMPRESSION_OVERRIDES as COMPRESSION_OVERRIDES
from harness.subject_records import GATES as GATES
from harness.subject_records import JSON as JSON
from harness.subject_records import BadInput as BadInput
from harness.subject_records import CompressionOutcome as CompressionOutcome
from harness.subject_records import CompressionReport as CompressionReport
from harness.subject_records import Declaration as Declaration
from harness.subject_records import GateDecision as GateDecision
from harness.subject_records import GateMeasurements as GateMeasurements
from harness.subject_records import OptimizerRecipe as OptimizerRecipe
from harness.subject_records import PerplexityFigures as PerplexityFigures
from harness.subject_records import QuantizedWeight as QuantizedWeight
from harness.subject_records import RegisteredVersion as RegisteredVersion
from harness.subject_records import TieRule as TieRule
from harness.subject_records import WeightVariant as WeightVariant
from harness.subject_scale import StreamsModels as StreamsModels
from harness.subject_scale import TrainsTogether as TrainsTogether
from harness.subject_speed import DecodesPacked as DecodesPacked
from harness.subject_speed import GivenWeights as GivenWeights
from harness.subject_speed import JoinedProducts as JoinedProducts
from harness.subject_speed import JoinsProducts as JoinsProducts
from harness.subject_speed import MultipliesTernary as MultipliesTernary
from harness.subject_speed import PackedDecoder as PackedDecoder
from harness.subject_speed import PreparedProduct as PreparedProduct
from harness.subject_speed import RunsLayers as RunsLayers
from harness.subject_speed import StepsGreedily as StepsGreedily
from harness.subject_speed import WritesPacked as WritesPacked
from harness.subject_speed import WritesProduct as WritesProduct
from harness.subjects import BUILTIN_SUBJECTS as BUILTIN_SUBJECTS

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Float, Float32, Int8, Int64, UInt8
    from torch import Tensor, nn
    from torch.optim import Optimizer

ENTRY_POINT_GROUP = "bitnet_audit.subjects"


class NotApplicable(Exception):  # noqa: N818 - a verdict about a check, not an error
    """The subject does not have the capability that a check needs."""


# --------------------------------------------------------------------------- capabilities


@runtime_checkable
class Subject(Protocol):
    """Anything that can be audited."""

    @property
    def declaration(self) -> Declaration:
        """Name, version and what the suites may hold this subject to."""
        ...


@runtime_checkable
class QuantizesWeights(Protocol):
    """Turns a floating-point weight into ternary codes and back."""

    def quantize_weight(
        self,
        weight: Float[Tensor, "out in"],
        variant: WeightVariant,
        second_moment: Float[Tensor, " in"] | None = None,
    ) -> QuantizedWeight:
        """Quantize one weight; raises on NaN, infinity, an empty or a non-2-D weight, where that is declared."""
        ...

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """The weight that the codes and scales stand for, in float32."""
        ...


@runtime_checkable
class QuantizesActivations(Protocol):
    """Quantizes activations to integers, one scale per token."""

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """Codes and scales with x ~ codes * scale (whatever the subject's internal convention)."""
        ...


@runtime_checkable
class Packs(Protocol):
    """Stores ternary codes in fewer bytes than one per weight, exactly."""

    def pack(self, codes: Int8[Tensor, "out in"], codec: str) -> UInt8[Tensor, "rows bytes"]:
        """Pack codes; raises on a code outside {-1, 0, 1}, where that is declared, and on an unknown codec."""
        ...

    def unpack(self, packed: UInt8[Tensor, "rows bytes"], codec: str, width: int) -> Int8[Tensor, "out in"]:
        """Unpack codes of the given width; raises on bytes that no codes pack to, where that is declared."""
        ...


@runtime_checkable
class TrainsLinear(Protocol):
    """Offers a linear layer that trains through the quantizer by a straight-through estimator."""

    def training_linear(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        variant: WeightVariant,
        quantize: bool = True,
    ) -> nn.Module:
        """A module with the latent parameter `.weight` and `.bias`; `quantize=False` gives the plain linear map."""
        ...


@runtime_checkable
class InfersLinear(Protocol):
    """Offers a linear layer that runs on stored ternary codes."""

    def inference_linear(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None, variant: WeightVariant
    ) -> nn.Module:
        """A module that computes what the training layer computes in evaluation."""
        ...


@runtime_checkable
class MeasuresPerplexity(Protocol):
    """Measures the perplexity of a causal language model."""

    def perplexity(
        self, model: Any, tokenizer: Any, documents: Sequence[str], context_length: int, batch_size: int
    ) -> PerplexityFigures:
        """Rolling log-likelihood of each document; raises on an empty set and on an empty document."""
        ...


@runtime_checkable
class CompressesModels(Protocol):
    """Compresses a whole causal language model into a packed and a dequantized artefact."""

    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        """Compress a Hugging Face folder into `out`, which does not exist yet; all else is the subject's default.

        `overrides` are settings as text, of these names alone, so that any subject can be asked for a cheaper run:
        `calibration_samples` (upper bound), `calibration_text` and `evaluation_text` (UTF-8 files, to calibrate on and
        to report perplexities on, the latter never to be fitted to), `compensation` ("none": each weight rounded by the
        rule alone, without the minutes that it takes to make up for one weight's error in the others),
        `fine_tune_steps` (upper bound on recovery; 0: none), `fine_tune_trigger` (relative perplexity increase above
        which it starts) and `seed`. A subject that has nothing of the kind, no calibration for example, leaves the
        setting alone.
        """
        ...

    def load_packed(self, path: Path) -> tuple[Any, Any]:
        """Reload a packed artefact: (model, tokenizer); modules keep the names that they have in the original."""
        ...

    def load_trainable(self, path: Path) -> nn.Module:
        """The trainable (straight-through) form of a packed artefact, in its own names.

        Each quantized layer holds its latent weight as the parameter `.weight`, [out, in].
        """
        ...

    def quantized_weights(self, path: Path) -> Mapping[str, QuantizedWeight]:
        """The codes and scales stored in a packed artefact, by layer name."""
        ...

    def layer_plan(self, model: Any) -> Sequence[tuple[str, bool, str]]:
        """For each parameter-carrying module of a model: (name, quantized, reason)."""
        ...


@runtime_checkable
class ChecksGradientFlow(Protocol):
    """Tests for itself, as part of its pipeline, whether gradients reach every quantized layer."""

    def gradient_failures(self, model: nn.Module, tokens: Int64[Tensor, "batch length"]) -> Sequence[str]:
        """The quantized layers of a model from `load_trainable` that the pipeline's own test finds wrong."""
        ...


@runtime_checkable
class Configures(Protocol):
    """Resolves and validates a configuration."""

    def configure(self, parameters: int, **user: Any) -> Mapping[str, Any]:
        """Every setting, resolved for a model with that many unique parameters; the user's values win."""
        ...

    def reject(self, **user: Any) -> None:
        """Validate the user's values only; raises where one of them is not allowed."""
        ...


@runtime_checkable
class ReadsConfiguration(Protocol):
    """Keeps its configuration in a YAML file and takes single settings as text, as its command line does."""

    def read_configuration(self, parameters: int, file: Path | None, overrides: Sequence[str]) -> Mapping[str, Any]:
        """As `Configures.configure`, from a file (None: the defaults) and `key=value` texts, which win over it."""
        ...

    def write_configuration(self, **user: Any) -> str:
        """The configuration with the user's values, not yet resolved for a size, as YAML text."""
        ...


@runtime_checkable
class Calibrates(Protocol):
    """Collects activation statistics for calibration."""

    def second_moments(
        self, model: Any, tokenizer: Any, text: str, samples: int, tokens: int, seed: int
    ) -> Mapping[str, Float[Tensor, " in"]]:
        """E[x_j^2] of each input feature of each layer that would be quantized, by layer name.

        The mean over `samples` windows of `tokens` consecutive tokens of the text, as the seed draws them and without
        any token added; fewer windows where the text holds no more. Raises on a text too short for one window.
        """
        ...


@runtime_checkable
class DecidesGates(Protocol):
    """Decides on its own measurements whether a compression passes and whether recovery is called for."""

    def decide_gates(
        self, measured: GateMeasurements, max_accuracy_drop: float, compression_target: float
    ) -> GateDecision:
        """Every gate; the drop (a fraction) limits the perplexity increase and the accuracy drop, both relative."""
        ...

    def recovery_triggered(self, before: float, after: float, trigger: float) -> bool:
        """Whether perplexity rose from `before` to `after` by more than the fraction `trigger`."""
        ...


@runtime_checkable
class Optimizes(Protocol):
    """Has an optimizer: a gradient filter, then orthogonalised updates for hidden matrices and AdamW for the rest."""

    @property
    def optimizer_recipe(self) -> OptimizerRecipe:
        """The constants that its updates can be computed with."""
        ...

    def optimizer(self, model: nn.Module, lr: float, alpha: float, lam: float, weight_decay: float = 0.0) -> Optimizer:
        """One over a model's trainable parameters: EMA decay `alpha`, weight `lam` of the EMA."""
        ...


@runtime_checkable
class FineTunes(Protocol):
    """Trains a packed artefact behind straight-through estimators, with a warm-up of the learning rate."""

    def fine_tune(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, warmup_steps: int, lr: float
    ) -> nn.Module:
        """The form of `load_trainable` after so many steps on the samples; the last step's weights, not the best."""
        ...


@runtime_checkable
class ResumesFineTuning(Protocol):
    """Keeps the state of a fine-tuning in a folder, from which it goes on after it has been interrupted."""

    def fine_tune_resumably(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, folder: Path, stop_after: int | None
    ) -> nn.Module | None:
        """As `FineTunes.fine_tune`, with samples in random order and the model's own dropout.

        The state in `folder` is written every third step; called again with the same arguments, it goes on from there,
        or raises where the state is damaged. `stop_after` so many steps, as if killed there, it returns None.
        """
        ...


@runtime_checkable
class RunsCommand(Protocol):
    """Has a command line of its own."""

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start it, such as (sys.executable, "-m", "bitnet")."""
        ...


CapabilityT = TypeVar("CapabilityT")


def require(subject: Subject, capability: Callable[..., CapabilityT]) -> CapabilityT:
    """The subject, seen as something with that capability; raises NotApplicable where it lacks it."""
    # Typed as a callable because type checkers reject a Protocol where a concrete `type[T]` is asked for.
    if not isinstance(subject, cast("type[CapabilityT]", capability)):
        raise NotApplicable(f"{subject.declaration.name} does not offer {getattr(capability, '__name__', capability)}")
    return subject


# --------------------------------------------------------------------------- loading


def load_subject(spec: str) -> Subject:
    """Load a subject by name (built in, or an entry point in the group `bitnet_audit.subjects`) or from a file.

    A file is written `path/to/file.py:factory`, where `factory` is a class or a function without arguments.
    Raises AuditError, in one sentence, when the spec names nothing, cannot be imported or gives no subject.
    """
    module, attribute = _resolve(spec)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise AuditError(f"subject {spec!r}: {module.__name__} has no callable {attribute!r}; name a class or function")
    subject = _guarded(spec, "could not be made", factory)
    if not isinstance(subject, Subject) or not isinstance(subject.declaration, Declaration):
        raise AuditError(f"subject {spec!r} has no `declaration`; give it one of type harness.subject.Declaration")
    return subject


def _resolve(spec: str) -> tuple[ModuleType, str]:
    location, separator, attribute = spec.rpartition(":")
    if separator and location.endswith(".py"):
        return _module_from_file(spec, Path(location)), attribute
    registered = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}
    target = (registered | BUILTIN_SUBJECTS).get(spec)
    if target is None:
        known = ", ".join(sorted(registered | BUILTIN_SUBJECTS))
        raise AuditError(f"unknown subject {spec!r}; known are {known}, or write path/to/file.py:factory")
    name, _, attribute = target.partition(":")
    return _guarded(spec, "could not be imported", lambda: importlib.import_module(name)), attribute


def _module_from_file(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise AuditError(f"subject {spec!r}: there is no file {path}; check the path before the colon")
    name = f"bitnet_audit_subject_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:  # pragma: no cover - a .py file always has a loader
        raise AuditError(f"subject {spec!r}: {path} is not a Python module")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickling look modules up by name
    loader = module_spec.loader
    _guarded(spec, "could not be imported", lambda: loader.exec_module(module))
    return module


ResultT = TypeVar("ResultT")


def _guarded(spec: str, what: str, action: Callable[[], ResultT]) -> ResultT:
    try:
        return action()
    except AuditError as error:
        raise AuditError(f"subject {spec!r} {what}: {error}") from error
    except Exception as error:
        raise AuditError(f"subject {spec!r} {what}: {type(error).__name__}: {error}; fix it or name another") from error

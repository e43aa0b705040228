"""What other libraries learn of this package, told to them when they are imported and not before.

transformers and lm-eval take seconds to load, and most uses of `import bitnet` need neither. So each of them is told by
a hook that waits for the module whose registry is meant, and that costs nothing until then.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def announce() -> None:
    """Register with every library below that is imported already, and with the others as soon as they are."""
    for module, register in _REGISTRIES.items():
        if module in sys.modules:
            register()
        elif not any(isinstance(finder, _Waiting) and finder.module == module for finder in sys.meta_path):
            sys.meta_path.insert(0, _Waiting(module, register))


class _Waiting(MetaPathFinder):
    """Finds one module as it would be found without this finder, and calls back once it has been executed."""

    def __init__(self, module: str, register: Callable[[], None]) -> None:
        self.module, self._register = module, register

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own specification, whose loader registers after its work; nothing for other modules."""
        del path, target
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            self._register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register_quantizer() -> None:
    from bitnet.integrations.packed_quantizer import register

    register()


def _register_lm_eval_model() -> None:
    from lm_eval.api.registry import model_registry

    if "bitnet" not in model_registry:
        model_registry.register("bitnet", target="bitnet.integrations.lm_eval_model:BitnetLM")


_REGISTRIES: dict[str, Callable[[], None]] = {
    "transformers.quantizers.auto": _register_quantizer,
    "lm_eval.models": _register_lm_eval_model,
}

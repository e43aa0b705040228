"""Which of the variants and codecs that a subject declares a check runs on: one test id for each.

A check that asks for a kind of variant or codec which the subject does not declare is *not applicable* to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.oracles.packing import CODES_PER_BYTE, FORMATS
from harness.subject import Declaration, NotApplicable

# The predicate is given by keyword: a marker called with nothing but a function would decorate that function.
of_known_rules = pytest.mark.declared(where=lambda variant: variant.rule in ("threshold", "absmean", "optimal"))
of_border_rules = pytest.mark.declared(where=lambda variant: variant.rule in ("threshold", "absmean", "absmax"))
of_published_rule = pytest.mark.declared(
    where=lambda variant: variant.rule == "absmean" and variant.granularity == "tensor"
)
of_threshold_rule = pytest.mark.declared(where=lambda variant: variant.rule == "threshold")
of_searched_rule = pytest.mark.declared(where=lambda variant: variant.rule == "optimal")
of_calibrated_rules = pytest.mark.declared(where=lambda variant: variant.second_moment)
with_groups = pytest.mark.declared(where=lambda variant: variant.granularity == "group")
with_scales_per_row = pytest.mark.declared(where=lambda variant: variant.granularity != "tensor")
of_known_format = pytest.mark.declared(where=lambda codec: codec in FORMATS)
of_published_format = pytest.mark.declared(where=lambda codec: codec in CODES_PER_BYTE)
of_int8_format = pytest.mark.declared(where=lambda codec: codec == "int8")


def parametrize_declared(metafunc: pytest.Metafunc, declaration: Declaration) -> None:
    """Run a test that asks for ``variant`` or ``codec`` once for each declared one that its markers let through."""
    if "variant" in metafunc.fixturenames:
        _parametrize(metafunc, "variant", [(variant.id, variant) for variant in declaration.variants])
    if "codec" in metafunc.fixturenames:
        _parametrize(metafunc, "codec", [(codec, codec) for codec in declaration.codecs])


def _parametrize(metafunc: pytest.Metafunc, name: str, declared: Sequence[tuple[str, Any]]) -> None:
    wanted = [marker.kwargs["where"] for marker in metafunc.definition.iter_markers("declared")]
    chosen = [(identifier, each) for identifier, each in declared if all(where(each) for where in wanted)]
    ids, values = zip(*chosen, strict=True) if chosen else (("none",), (None,))
    metafunc.parametrize(name, values, ids=ids, indirect=True, scope="session")


def declared_value(request: pytest.FixtureRequest) -> Any:
    """The declared variant or codec of this test; not applicable when the subject declares none of the kind."""
    if request.param is None:
        raise NotApplicable(f"the subject declares no such {request.fixturename}")
    return request.param

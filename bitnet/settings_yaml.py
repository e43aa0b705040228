"""YAML of settings: one flat mapping, or the value of one setting, read as plain data within bounds.

YAML lets a few bytes stand for gigabytes (an alias of an alias of ...), and its readers take time in squares of depth.
Settings need neither, so aliases and deep nesting are refused.
"""

import re
from collections import Counter
from typing import Any, Final

import yaml

from bitnet.errors import BitnetError, shortened

LARGEST: Final = 2**20
"""Bytes of a settings file at most."""
_DEEPEST: Final = 16


class _SafeLoader(yaml.SafeLoader):
    """Plain data whose numbers may be written 1e-5, which YAML 1.1 would read as text, and whose keys are unique."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(problem="it has an alias, which settings do not need")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(problem="it is nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(problem=f"the key '{key}' appears twice")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_SafeLoader` reads: text that it would take for a number is quoted."""


_EXPONENT_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
for _class in (_SafeLoader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT_NUMBER, list("-+.0123456789"))


def dump_yaml(value: Any) -> str:
    """Block style, one entry a line however long."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text


def parse_yaml(text: str, what: str) -> Any:
    """The value of `text`; `what` names it in the BitnetError that is raised where it is not YAML."""
    try:
        return yaml.load(text, Loader=_SafeLoader)  # a SafeLoader: plain data only
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "unreadable characters"
    except ValueError as error:  # of numbers and dates
        problem = str(error)
    except AttributeError:  # of a tag that promises a date
        problem = "a value is not of the kind that its tag names"
    raise BitnetError(f"{what} is not valid YAML ({shortened(problem)}); quote or correct it.")

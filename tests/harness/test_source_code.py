from pathlib import Path
from textwrap import dedent

import pytest

from harness import source_code
from harness.errors import AuditError


@pytest.fixture
def tree(tmp_path):
    """Write modules by their paths without suffix and return the package's folder."""

    def write(**modules: str) -> Path:
        root = tmp_path / "package"
        for name, text in modules.items():
            path = root / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        return root

    return write


def functions(root: Path) -> dict[str, source_code.FunctionFacts]:
    return {each.name: each for module in source_code.read_tree(root) for each in module.functions}


# --------------------------------------------------------------------------- reading


def test_modules_come_in_the_order_of_their_paths_with_their_lines(tree):
    root = tree(b="x = 1\ny = 2\n", a='"""Documented."""\n', **{"sub/c": ""})
    found = source_code.read_tree(root)
    assert [(str(module.path), module.lines) for module in found] == [("a.py", 1), ("b.py", 2), ("sub/c.py", 0)]
    assert [module.documented for module in found] == [True, False, False]


def test_caches_and_hidden_folders_are_left_out(tree):
    root = tree(a="")
    for folder in ("__pycache__", ".venv"):
        (root / folder).mkdir()
        (root / folder / "b.py").write_text("syntax error (", encoding="utf-8")
    assert [str(module.path) for module in source_code.read_tree(root)] == ["a.py"]


def test_a_folder_without_source_is_an_error(tmp_path):
    with pytest.raises(AuditError, match=r"No Python source under .*source_root"):
        source_code.read_tree(tmp_path)


def test_source_that_does_not_parse_is_an_error_that_names_file_and_line(tree):
    with pytest.raises(AuditError, match=r"broken\.py is not valid Python \(line 2\)"):
        source_code.read_tree(tree(broken="x = 1\ndef f(:\n"))


# --------------------------------------------------------------------------- lengths


def test_a_function_is_as_long_as_from_def_to_its_last_line(tree):
    root = tree(
        a='''\
        @decorator
        def short(
            x,
        ):
            """Docstring."""

            return x


        async def one(): ...
        '''
    )
    assert {name: each.lines for name, each in functions(root).items()} == {"short": 6, "one": 1}


def test_the_limit_itself_is_allowed(tree):
    modules = source_code.read_tree(tree(a="def f():\n" + "    pass\n" * 4, b="x = 1\n"))
    assert source_code.longest_function(modules) == 5
    assert source_code.long_functions(modules, 5) == ()
    assert source_code.long_functions(modules, 4) == ("a.py:1 f (5 lines)",)


def test_private_and_nested_functions_and_methods_count_too(tree):
    text = "class C:\n    def _m(self):\n        def inner():\n            pass\n            pass\n"
    assert source_code.long_functions(source_code.read_tree(tree(a=text)), 3) == ("a.py:2 C._m (4 lines)",)


def test_a_tree_without_functions_has_no_longest_one(tree):
    assert source_code.longest_function(source_code.read_tree(tree(a="x = 1"))) == 0


# --------------------------------------------------------------------------- type hints


def test_every_parameter_and_the_result_is_counted(tree):
    root = tree(a="def f(a: int, b, /, c: int = 1, *args, d, e: int = 2, **kwargs: str): ...\n")
    share = source_code.type_hint_share(source_code.read_tree(root))
    assert (share.held, share.total) == (4, 8)
    assert share.missing == tuple(f"a.py:1 f: {slot}" for slot in ("b", "d", "args", "return"))
    assert share.value == 0.5


def test_self_and_cls_and_the_result_of_init_need_no_hint(tree):
    root = tree(
        a="""\
        class C:
            def __init__(self, x: int): ...
            def method(self) -> None: ...
            @classmethod
            def made(cls) -> None: ...
            @staticmethod
            def apart(self) -> None: ...
        """
    )
    share = source_code.type_hint_share(source_code.read_tree(root))
    assert share.missing == ("a.py:7 C.apart: self",)
    assert share.total == 5


def test_what_is_private_or_inside_a_function_need_no_hints(tree):
    root = tree(
        a="def _f(x): ...\nclass _C:\n    def m(self, x): ...\ndef g() -> None:\n    def inner(x): ...\n",
        _private="def f(x): ...\n",
    )
    share = source_code.type_hint_share(source_code.read_tree(root))
    assert (share.held, share.total) == (1, 1)


def test_an_empty_share_is_not_a_number(tree):
    share = source_code.type_hint_share(source_code.read_tree(tree(a="x = 1")))
    assert share.value != share.value


# --------------------------------------------------------------------------- docstrings


def test_modules_classes_functions_and_methods_need_a_docstring(tree):
    root = tree(
        a='''\
        """Module."""

        class C:
            """Class."""

            def documented(self):
                """Method."""

            def bare(self): ...

        class D: ...

        if True:
            def conditional(): ...
        ''',
        b="",
    )
    share = source_code.docstring_share(source_code.read_tree(root))
    assert share.missing == ("b.py", "a.py:11 D", "a.py:9 C.bare", "a.py:14 conditional")
    assert (share.held, share.total) == (3, 7)


def test_special_methods_setters_and_overloads_are_exempt(tree):
    root = tree(
        a='''\
        """Module."""

        class C:
            """Class."""

            def __repr__(self): ...

            @property
            def x(self):
                """The getter."""

            @x.setter
            def x(self, value): ...

            @typing.overload
            def f(self): ...
        '''
    )
    assert source_code.docstring_share(source_code.read_tree(root)).missing == ()


# --------------------------------------------------------------------------- imports


def test_the_import_graph_follows_every_way_to_import_a_module(tree):
    modules = {
        "__init__": "from package import a\n",
        "a": "import package.b\nimport os\n",
        "b": "from package.sub.c import name\n",
        "sub/__init__": "",
        "sub/c": "from . import d\nfrom .. import a\n",
        "sub/d": "def f():\n    from ..b import x\n",
    }
    root = tree(**modules)
    assert source_code.import_graph(root) == {
        "package": frozenset({"package.a"}),
        "package.a": frozenset({"package.b"}),
        "package.b": frozenset({"package.sub.c"}),
        "package.sub": frozenset(),
        "package.sub.c": frozenset({"package.sub.d", "package.a"}),
        "package.sub.d": frozenset({"package.b"}),
    }


def test_a_name_from_a_package_is_an_import_of_the_package(tree):
    graph = source_code.import_graph(tree(**{"a": "from package.sub import name", "sub/__init__": "name = 1"}))
    assert graph["package.a"] == {"package.sub"}


def test_imports_for_type_checkers_alone_are_left_out_but_not_their_else(tree):
    text = "if typing.TYPE_CHECKING:\n    import package.b\nelse:\n    import package.c\n"
    assert source_code.import_graph(tree(a=text, b="", c=""))["package.a"] == {"package.c"}


def test_a_cycle_is_given_from_its_first_module_back_to_it(tree):
    root = tree(a="import package.b", b="def f():\n    import package.c", c="import package.a", d="import package.a")
    cycle = source_code.import_cycle(source_code.import_graph(root))
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"package.a", "package.b", "package.c"}


def test_a_tree_of_imports_has_no_cycle(tree):
    root = tree(a="import package.b\nimport package.c", b="import package.c", c="")
    assert source_code.import_cycle(source_code.import_graph(root)) == ()


def test_imports_of_other_packages_are_found_wherever_they_stand(tree):
    root = tree(
        a="import harness.cli as cli, os\n",
        b="def f():\n    from suites import weights\n",
        c="from . import harness\nimport harnessed\n",
    )
    assert source_code.imports_of(root, ("harness", "suites")) == ("a.py:1 harness.cli", "b.py:2 suites")


# --------------------------------------------------------------------------- swallowed errors


@pytest.mark.parametrize(
    "handler",
    [
        "except:\n    raise",
        "except Exception:\n    pass",
        "except BaseException as error:\n    ...",
        "except (OSError, Exception):\n    'nothing to see'",
        "except builtins.Exception:\n    return None",
        "except Exception:\n    return",
    ],
)
def test_an_error_that_disappears_is_found(tree, handler):
    text = "def f():\n    try:\n        g()\n" + "".join(f"    {line}\n" for line in handler.splitlines())
    assert source_code.swallowed_errors(tree(a=text)) == ("a.py:4",)


@pytest.mark.parametrize("statement", ["continue", "break"])
def test_going_on_with_a_loop_is_no_handling(tree, statement):
    text = f"for x in y:\n    try:\n        g()\n    except Exception:\n        {statement}\n"
    assert source_code.swallowed_errors(tree(a=text)) == ("a.py:4",)


@pytest.mark.parametrize(
    "handler",
    ["except OSError:\n    pass", "except Exception as error:\n    log(error)", "except Exception:\n    return g()"],
)
def test_an_error_that_is_named_or_leaves_a_trace_is_not_swallowed(tree, handler):
    text = "def f():\n    try:\n        g()\n" + "".join(f"    {line}\n" for line in handler.splitlines())
    assert source_code.swallowed_errors(tree(a=text)) == ()


def test_suppressing_everything_is_swallowing(tree):
    root = tree(a="with contextlib.suppress(Exception):\n    f()\nwith suppress(OSError):\n    f()\n")
    assert source_code.swallowed_errors(root) == ("a.py:1",)

"""MkDocs hooks: the pages that are made from other files, so that each thing is written once.

The front page is README.md, the changes are CHANGELOG.md, the explanation of every criterion is made from the rulebook
(`harness.render.rulebook`), and the reference has a page for each package with the docstrings of its modules.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from harness.criteria import load_rulebook
from harness.render.rulebook import render_rulebook

ROOT = Path(__file__).parents[2]
PACKAGES = ("bitnet", "harness", "suites")
#: Pages that are listed where they are there.
OPTIONAL = ("scale.md",)
_FROM_THE_ROOT = re.compile(r"\]\(docs/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation."""
    sections = {name: pages for entry in config.nav or () if isinstance(entry, dict) for name, pages in entry.items()}
    sections["Reference"] += [{name: f"reference/{name}.md"} for name in reference()]
    sections["How to"] += [name for name in OPTIONAL if (ROOT / "docs" / name).is_file()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for name, text in made_pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def made_pages() -> dict[str, str]:
    """The text of each page that no file has, by its place in the site."""
    pages = {
        "index.md": _FROM_THE_ROOT.sub("](", (ROOT / "README.md").read_text(encoding="utf-8")),
        "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "criteria.md": render_rulebook(load_rulebook()),
    }
    return pages | {f"reference/{name}.md": text for name, text in reference().items()}


def reference() -> dict[str, str]:
    """A page for each package, by name: one entry a module, in the order of their names."""
    pages: dict[str, str] = {}
    for package in PACKAGES:
        for folder in sorted([ROOT / package, *(path.parent for path in (ROOT / package).rglob("*/__init__.py"))]):
            name = ".".join(folder.relative_to(ROOT).parts)
            modules = [path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")]
            entries = [f"::: {name}.{path.stem}" for path in modules]
            lines = [f"# {name}", f"::: {name}\n    options:\n      members: false", *entries]
            pages[name] = "\n\n".join(lines) + "\n"
    return pages

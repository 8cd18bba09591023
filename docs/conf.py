"""The documentation's build: ``sphinx-build -W -q docs build/docs``."""

import ast
import inspect
from pathlib import Path
from typing import Any

import cvae
from cvae.estimator import Estimator
from cvae.parsable import Named

ROOT = Path(__file__).parents[1]

project = "cvae"
author = copyright = "the cvae developers"
version = release = cvae.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `encode` in a docstring is a link if there is such a name
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections of the docstrings have them
numpydoc_show_class_members = False
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"cvae {release}"
html_show_sourcelink = False
html_theme_options = {"footer_end": [], "header_links_before_dropdown": 6, "navigation_with_keys": False}


def write_gallery(app: object) -> None:
    """Make a page of each program in examples/: its docstring, its picture if there is one, and its source."""
    folder = ROOT / "docs" / "gallery" / "generated"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if not (ROOT / "examples" / f"{old.stem}.py").exists():
            old.unlink()
    for path in sorted((ROOT / "examples").glob("*.py")):
        page = folder / f"{path.stem}.md"
        text = gallery_page(path)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def gallery_page(path: Path) -> str:
    """Return a page with a program's docstring, whose first line is the title, its picture and the rest of it."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    title, _, text = (ast.get_docstring(module) or path.stem).partition("\n")
    has_picture = (ROOT / "docs" / "pictures" / f"{path.stem}.png").exists()
    source = f"../../../examples/{path.name}"
    parts = [
        f"# {title.rstrip('.')}",
        text.strip().replace("::", ":"),
        *([f"![{title}](../../pictures/{path.stem}.png)"] if has_picture else []),
        f"```{{literalinclude}} {source}\n:language: python\n:lines: {module.body[1].lineno}-\n```",
    ]
    return "\n\n".join(parts) + "\n"


def signature_of(app: object, what: str, name: str, thing: object, *rest: object) -> tuple[str, str] | None:
    """Give the arguments of `__init__`, as autodoc would otherwise show those of a base's `__new__`."""
    if what != "class" or not issubclass(thing, (Estimator, Named)):
        return None
    if thing.__init__ is object.__init__:
        return "()", ""
    parameters = list(inspect.signature(thing.__init__).parameters.values())[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare)), ""


def setup(app: Any) -> None:
    app.connect("builder-inited", write_gallery)
    app.connect("autodoc-process-signature", signature_of)

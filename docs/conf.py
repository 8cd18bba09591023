"""The documentation's build: ``sphinx-build -W -q docs build/docs``."""

import ast
import sys
from pathlib import Path

import cvae

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
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False, "footer_end": []}


def write_gallery(app: object) -> None:
    """Make a page of each program in examples/: its docstring, its picture if there is one, and its source."""
    folder = Path(__file__).with_name("gallery")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if old.stem != "index" and not (ROOT / "examples" / f"{old.stem}.py").exists():
            old.unlink()
    for path in sorted((ROOT / "examples").glob("*.py")):
        page = folder / f"{path.stem}.md"
        text = gallery_page(path)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def gallery_page(path: Path) -> str:
    title, _, rest = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem).partition("\n")
    picture = f"![{title}](../pictures/{path.stem}.png)\n\n"
    if not (ROOT / "docs" / "pictures" / f"{path.stem}.png").exists():
        picture = ""
    return (
        f"# {title.rstrip('.')}\n\n{rest.strip().replace('::', ':')}\n\n{picture}```{{literalinclude}} "
        f"../../examples/{path.name}\n:language: python\n```\n"
    )


def setup(app: object) -> None:
    sys.path.insert(0, str(ROOT / "examples"))
    app.connect("builder-inited", write_gallery)

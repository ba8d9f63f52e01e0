"""Hooks of mkdocs: pages and pictures of ``results/`` that the documentation shows become part of the site.

In the repository they are linked as ``../results/...``, so that the links work there, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
SHOWN = {".md", ".png"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the tables and curves below ``results/``."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in SHOWN:
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of top-level pages find them."""
    return markdown if "/" in page.file.src_uri else markdown.replace("](../results/", "](results/")

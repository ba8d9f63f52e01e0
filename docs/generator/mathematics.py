"""Extension of griffe, which reads the sources for the API reference: formulas as Markdown has them."""

from __future__ import annotations

from typing import Any

import griffe

from docs.generator.docstrings import as_markdown


class Mathematics(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

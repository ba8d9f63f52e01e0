"""Reads what docstrings say, as Markdown: of classes' fields, of functions' arguments."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
from functools import cache
from typing import Any

INLINE_FORMULA = re.compile(r":math:`([^`]+)`")
FORMULA = re.compile(r"^( *)\.\. math::[ ]*(.*)\n((?:\1[ ]+\S.*\n|\n(?=\1[ ]+\S))*)", re.MULTILINE)
ARGUMENT = re.compile(r"^    (\w+): (.*)$")


def as_markdown(text: str) -> str:
    """The text with ``$...$`` and ``$$...$$`` in place of reStructuredText's ``:math:`` and ``.. math::``."""

    def formula(match: re.Match[str]) -> str:
        lines = [match[2], *match[3].splitlines()]
        tex = " ".join(line.strip() for line in lines if line.strip())
        if "&" in tex:
            tex = rf"\begin{{aligned}} {tex} \end{{aligned}}"
        return f"{match[1]}$$ {tex} $$\n"

    return INLINE_FORMULA.sub(r"$\1$", FORMULA.sub(formula, text + "\n")).rstrip("\n")


def in_a_cell(text: str) -> str:
    """The text for a table's cell: on one line, code between single backticks, bars escaped."""
    one_line = " ".join(as_markdown(text).split())
    return re.sub(r"``([^`]+)``", r"`\1`", one_line).replace("|", r"\|")


def summary(documented: Any) -> str:
    """A docstring's first sentence or paragraph."""
    return (inspect.getdoc(documented) or "").split("\n\n", 1)[0]


@cache
def field_docstrings(kind: type) -> dict[str, str]:
    """What stands below each field of a dataclass, by the field's name."""
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    (body,) = (
        node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    found = {}
    for field, text in itertools.pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = inspect.cleandoc(said)
    return found


def argument_docstrings(function: Any) -> dict[str, str]:
    """What a docstring's section "Args:" says about each argument."""
    text = inspect.getdoc(function) or ""
    if only := re.fullmatch(r"Args: (\w+): (.*)", text, re.DOTALL):
        return {only[1]: only[2]}
    section = re.search(r"^Args:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    found: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines() if section else ():
        if match := ARGUMENT.match(line):
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found

"""Resolves a user's own parts by name: ``module:attribute`` or ``path/to/file.py:attribute``.

Used for launchers, environments, wrappers, friends, models, reporters and schedules. The current folder is
searched as well, as with ``python -m``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from ppo_and_friends.errors import UsageError, nearest

MISSING = object()


class CannotImport(Exception):
    """A module or file can't be imported; the message gives the reason."""


def is_file(source: str) -> bool:
    """Whether the part before the colon is the path of a file rather than the name of a module."""
    return source.endswith(".py")


def import_source(source: str) -> ModuleType:
    """Import the part before the colon.

    Args:
        source: The name of a module, or the path of a Python file relative to the current folder.

    Raises:
        CannotImport: It doesn't exist, or raises an error when imported.
    """
    try:
        if is_file(source):
            return _import_file(Path(source))
        if _top_level_missing(source):
            _add_to_path(os.getcwd())
        return importlib.import_module(source)
    except CannotImport:
        raise
    except ModuleNotFoundError as error:
        raise CannotImport(one_line(error)) from error
    except Exception as error:  # third-party code can raise anything
        raise CannotImport(described(error)) from error


def find_attribute(module: ModuleType, path: str) -> Any:
    """A module's attribute by its dotted path; ``MISSING`` if it doesn't exist."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, MISSING)
        if found is MISSING:
            break
    return found


def resolve_object(name: str, what: str) -> Any:
    """Resolve ``module:attribute`` or ``path/to/file.py:attribute``.

    Args:
        name: The object's name.
        what: The kind of object, such as ``friend``, for error messages.

    Raises:
        UsageError: The name is malformed, its module can't be imported, or has no such attribute.
    """
    source, colon, path = name.rpartition(":")
    if not (colon and source and path):
        raise UsageError(f"{what} {name!r} must be written as module:name or path/to/file.py:name.")
    try:
        module = import_source(source)
    except CannotImport as error:
        raise UsageError(f"{what} {name!r} can't be imported: {error}.") from error
    found = find_attribute(module, path)
    if found is MISSING:
        raise UsageError(f"{what} {name!r} can't be imported: {missing(source, path, module)}")
    return found


def missing(source: str, path: str, module: ModuleType) -> str:
    """A sentence about an attribute that a module doesn't have."""
    near = nearest(path, [each for each in vars(module) if not each.startswith("_")])
    return f"{source} has no {path!r}." + (f" Did you mean {', '.join(near)}?" if near else "")


def described(error: BaseException) -> str:
    """An error in one line: type, message, and the last line of the user's files it passed."""
    said = f"{type(error).__name__}: {one_line(error)}"
    if isinstance(error, SyntaxError):  # its message contains the location
        return said
    frames = traceback.extract_tb(error.__traceback__)
    library = ("<", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    own = [frame for frame in frames if not frame.filename.startswith(library)]
    last = own[-1] if own else None
    return said if last is None else f"{said} ({Path(last.filename).name}, line {last.lineno})"


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; its type's name if it has none, or can't say it."""
    try:
        text = str(error)
    except Exception:  # somebody else's __str__
        text = ""
    return " ".join(text.split()) or type(error).__name__


def _top_level_missing(source: str) -> bool:
    top = source.partition(".")[0]
    if not top or top in sys.modules:
        return False
    importlib.invalidate_caches()  # the file may be new
    return importlib.util.find_spec(top) is None


def _add_to_path(folder: str) -> None:
    # At the end, so that it shadows no other module. Subprocesses inherit it.
    if folder not in sys.path:
        sys.path.append(folder)


def _import_file(path: Path) -> ModuleType:
    """Import a file once, as a module named after it; its neighbours become importable as well."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise CannotImport(f"no such file: {path}")
    _add_to_path(str(path.parent))
    name = re.sub(r"\W", "_", path.stem)
    for known in ("__main__", name, unique := f"{name}_{zlib.crc32(str(path).encode()):08x}"):
        module = sys.modules.get(known)
        if module is not None and _file_of(module) == path:
            return module
    importlib.invalidate_caches()
    elsewhere = name in sys.modules or _origin(name) not in (None, path)
    spec = importlib.util.spec_from_file_location(unique if elsewhere else name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve()


def _origin(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    return Path(spec.origin or name).resolve()

"""Parts by name: ``module:attribute`` or ``path/to/file.py:attribute``, for everything a user may bring.

Launchers, environments, wrappers, friends, models and reporters are all found here. Modules are looked for as
``python -m`` does it: in the current folder, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from ppo_and_friends.errors import UsageError, nearest

MISSING = object()


class CannotImport(Exception):
    """A module or file can't be imported; the argument says why."""


def is_file(source: str) -> bool:
    """Whether what stands before the colon is a file's path, and not a module's name."""
    return source.endswith(".py")


def import_source(source: str) -> ModuleType:
    """Import what stands before the colon.

    Args:
        source: A module's name, or the path of a Python file (relative to the current folder).

    Raises:
        CannotImport: There is no such module or file, or it raises an error.
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
    except Exception as error:  # somebody else's module: anything can go wrong in it
        raise CannotImport(described(error)) from error


def find_attribute(module: ModuleType, path: str) -> Any:
    """A module's attribute by its dotted path; ``MISSING`` where there is none."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, MISSING)
        if found is MISSING:
            break
    return found


def resolve_object(name: str, what: str) -> Any:
    """The object that is called ``module:attribute`` or ``path/to/file.py:attribute``.

    Args:
        name: Of the object.
        what: What it is to be, for messages: ``friend``.

    Raises:
        UsageError: It isn't written like that, its module can't be imported, or it isn't in there.
    """
    source, colon, path = name.rpartition(":")
    if not (colon and source and path):
        raise UsageError(f"{what} {name!r}: write it as module:name or path/to/file.py:name.")
    try:
        module = import_source(source)
    except CannotImport as error:
        raise UsageError(f"{what} {name!r} can't be imported: {error}.") from error
    found = find_attribute(module, path)
    if found is MISSING:
        raise UsageError(f"{what} {name!r} can't be imported: {missing(source, path, module)}")
    return found


def missing(source: str, path: str, module: ModuleType) -> str:
    """What to say of an attribute that a module doesn't have: a sentence."""
    near = nearest(path, [each for each in vars(module) if not each.startswith("_")])
    return f"{source} has no {path!r}." + (f" Did you mean {', '.join(near)}?" if near else "")


def described(error: BaseException) -> str:
    """Somebody else's error in a line: its type, what it says, and the line that raised it."""
    said = f"{type(error).__name__}: {one_line(error)}"
    if isinstance(error, SyntaxError):  # says where it is by itself
        return said
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    last = own[-1] if own else None
    return said if last is None else f"{said} ({Path(last.filename).name}, line {last.lineno})"


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _top_level_missing(source: str) -> bool:
    top = source.partition(".")[0]
    if not top or top in sys.modules:
        return False
    importlib.invalidate_caches()  # the file may just have been written
    return importlib.util.find_spec(top) is None


def _add_to_path(folder: str) -> None:
    # Last, so that nothing that is found without it changes; processes started later inherit it.
    if folder not in sys.path:
        sys.path.append(folder)


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its own name, once; what lies beside it can be imported, too."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise CannotImport(f"there is no file {path}")
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

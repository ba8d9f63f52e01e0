"""The house: which room may know which, over all imports, late and type-only ones included."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "ppo_and_friends"

FLOORS = (
    {"errors"},
    {"common"},
    {"settings", "distributed"},
    {"vector", "networks"},
    {"ppo", "evaluation", "environments"},
    {"friends", "reporting"},
    {"runs"},
    {"policy"},
    {"api"},
    {"studies"},
    {"cli"},
)
"""From the ground up: a room may import those on lower floors, and its own files."""

FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def sources() -> dict[str, Path]:
    """Every module of the package and of environments/, by its dotted name."""
    found = {}
    for folder, prefix in ((ROOT / PACKAGE, PACKAGE), (ROOT / "environments", f"{PACKAGE}.environments")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((prefix, *(part for part in parts if part != "__init__")))] = path
    return found


MODULES = sources()
BENCHMARKS = {f"benchmarks.{path.stem}": path for path in (ROOT / "benchmarks").glob("*.py")}


def imports_of(path: Path, modules: dict[str, Path] = MODULES) -> set[str]:
    """Those of ``modules`` that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                found.add(longer if longer in modules else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in modules}


def names_of_root(path: Path) -> set[str | None]:
    """What a file takes from the package's root; None: the root itself."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found |= {alias.name for alias in node.names if f"{PACKAGE}.{alias.name}" not in MODULES}
        elif isinstance(node, ast.Import):
            found |= {None for alias in node.names if alias.name == PACKAGE}
    return found


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def room_of(module: str) -> str:
    if module == f"{PACKAGE}.__main__":
        return "cli"
    return module.split(".")[1] if "." in module else "api"


def test_the_root_holds_errors_alone():
    assert {path.name for path in (ROOT / PACKAGE).iterdir() if path.is_file()} == {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "py.typed",
    }


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_leads_upward(module: str):
    floor = FLOOR[room_of(module)]
    for imported in IMPORTS[module]:
        if imported == PACKAGE and names_of_root(MODULES[module]) <= {"__version__", None}:
            continue  # the version, or the package itself; everything else of it is the API's
        same_room = room_of(imported) == room_of(module)
        assert same_room or FLOOR[room_of(imported)] < floor, f"{module} imports {imported}"


@pytest.mark.parametrize("modules", [MODULES, BENCHMARKS], ids=["package", "benchmarks"])
def test_no_import_circles(modules: dict[str, Path]):
    try:
        TopologicalSorter({name: imports_of(path, modules) for name, path in modules.items()}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_package_knows_nothing_of_benchmarks():
    assert len(BENCHMARKS) > 10
    assert not [name for name, path in MODULES.items() if imports_of(path, BENCHMARKS)]

"""Both ways to install, from everywhere, and that the tested versions cover what is required."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import LAUNCHERS, ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths are those of Unix")
IMPORT = (
    "import ppo_and_friends, ppo_and_friends.environments as e, ppo_and_friends.vector.wrappers\n"
    "import os.path\n"
    "print(os.path.dirname(ppo_and_friends.__file__))\nprint(os.path.dirname(e.__file__))"
)

POLICY = [
    "experiment.json",
    "score.json",
    "checkpoints/latest",
    *(f"checkpoints/000000000001/{name}" for name in ("manifest.json", "state.json", "tensors.safetensors")),
]


def run(command: list[str], cwd: Path, ok: bool = True) -> str:
    """Run without this checkout on the path."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV", *LAUNCHERS))
    }
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=110)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["regular", "editable"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """(kind of install, a copy of the checkout, the Python of a new environment that has it)."""
    base = tmp_path_factory.mktemp(request.param)
    copy, environment = base / "checkout", base / "venv"
    copy.mkdir()
    for name in ("ppo_and_friends", "environments"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "main.py"):
        shutil.copy(ROOT / name, copy / name)
    for name in POLICY:
        path = copy / "results" / "policies" / "Toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], base)
    # The dependencies of this environment, but not what its own .pth files add (this checkout).
    site = next((environment / "lib").glob("python*")) / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    options = ["-e"] if request.param == "editable" else []
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    run([*pip, *options, str(copy)], base)
    shutil.rmtree(copy / "build", ignore_errors=True)
    return request.param, copy, python


@pytest.mark.slow
def test_the_launchers_are_found_from_anywhere(installed: tuple[str, Path, Path], tmp_path: Path) -> None:
    kind, copy, python = installed
    package, environments = run([str(python), "-c", IMPORT], tmp_path).splitlines()
    if kind == "editable":
        assert (package, environments) == (str(copy / "ppo_and_friends"), str(copy / "environments"))
    else:
        assert Path(environments) == Path(package) / "environments" and "site-packages" in package
        assert (Path(package) / "py.typed").is_file()


@pytest.mark.slow
def test_the_launchers_are_found_in_the_checkout(installed: tuple[str, Path, Path]) -> None:
    """There the checkout's own files are used, also where a regular install has others."""
    _, copy, python = installed
    package, environments = run([str(python), "-c", IMPORT], copy).splitlines()
    assert (package, environments) == (str(copy / "ppo_and_friends"), str(copy / "environments"))
    assert "CartPole" in run([str(python), "main.py", "--list"], copy)


@pytest.mark.slow
def test_trained_policies_are_found_from_anywhere(installed: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, _, python = installed
    where = "from ppo_and_friends.policy.pretrained import pretrained_folder as p; print(p('Toy'))"
    folder = Path(run([str(python), "-c", where], tmp_path).strip())
    assert all((folder / name).read_text() == name for name in POLICY)


@pytest.mark.slow
def test_the_console_script(installed: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, _, python = installed
    assert "--environment" in run([str(python.parent / "ppo-and-friends"), "--help"], tmp_path)


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(
        re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins
    )  # no hosts, no local builds
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}


def test_the_tested_versions_satisfy_every_requirement() -> None:
    pins = constraints()
    requirements = [Requirement(text) for text in importlib.metadata.requires("ppo-and-friends") or []]
    assert len(requirements) > 15
    for requirement in requirements:
        extra = str(requirement.marker or "")
        if any(f'"{name}"' in extra for name in ("track", "mlflow", "bench")):
            continue  # not part of what is tested
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (requirement, version)
    assert not next(r for r in requirements if r.name == "mujoco").specifier.contains("4.0.0")


def test_every_import_is_required() -> None:
    """Third-party modules that the package imports belong to a distribution that it requires."""
    owners = importlib.metadata.packages_distributions()
    required = {
        canonicalize_name(Requirement(text).name)
        for text in importlib.metadata.requires("ppo-and-friends") or []
    }
    for path in [*ROOT.glob("ppo_and_friends/**/*.py"), *ROOT.glob("environments/**/*.py")]:
        for module in re.findall(r"^\s*(?:import|from) ([A-Za-z_]\w*)", path.read_text(), re.MULTILINE):
            if module in sys.stdlib_module_names or module in {"ppo_and_friends", "environments"}:
                continue
            # An extra that isn't installed has no known owner; its distribution is named as its module is.
            names = {canonicalize_name(name) for name in owners.get(module, [module])}
            assert names & required, f"{path}: {module}"


def test_the_makefile_and_ci_agree_with_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in ("train", "test"):
        assert target in targets
        assert re.search(rf"^ *make {target}$", readme, re.MULTILINE), f"the README lacks `make {target}`"

"""Virtual environments of the peers, each made once by its own pip."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from ppo_and_friends.errors import UsageError

DEFAULT = Path.home() / ".cache" / "ppo_and_friends" / "peers"
TORCH = "torch==2.13.0"

# Torch comes first, with the version pinned as ours is, so that both run the same kernels.
STEPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "sb3": (
        (TORCH,),
        (
            "stable-baselines3==2.9.*",
            "gymnasium>=1.2",
            "box2d",
            "pygame",
            "mujoco>=3.3,!=4.0.0",
            "imageio",  # this and the next are imported by Gymnasium's MuJoCo environments
            "packaging",
            "ale-py",
            "opencv-python-headless",
        ),
    ),
    # Sample-Factory stays with the Gymnasium and NumPy of its time; its box2d extra doesn't build.
    "sf": (
        (TORCH, "numpy==1.26.*"),
        (
            "sample-factory==2.1.*",
            "gymnasium==0.29.*",
            "numpy==1.26.*",
            "box2d",
            "pygame",
            "mujoco<3",
            "imageio",
        ),
    ),
}
READY = ".ready"


def peer_python(peer: str, folder: Path = DEFAULT) -> Path:
    """The Python of a peer's virtual environment, which is made if it isn't there.

    Args:
        peer: ``sb3`` or ``sf``.
        folder: Where the environments are.

    Raises:
        UsageError: It can't be made; with pip's last line.
    """
    place = folder / peer
    python = place / "bin" / "python"
    # One that was made for other packages is brought up to date.
    made_for = f"{sys.version}\n{STEPS[peer]}"
    if (place / READY).exists() and (place / READY).read_text() == made_for:
        return python
    print(f"making the virtual environment of {peer} in {place}", flush=True)
    if not (place / READY).exists():
        venv.create(place, with_pip=True, clear=True)  # clear: what an interrupted attempt left
    for packages in STEPS[peer]:
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["?"])[-1]
            raise UsageError(f"The peer {peer} can't be installed: {said}")
    (place / READY).write_text(made_for)
    return python

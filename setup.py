"""Packaging of PPO and Friends.

``environments/`` is installed as ``ppo_and_friends.environments``, and the trained policies in
``results/policies/`` as ``ppo_and_friends/policies/``.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / "README.md"
PACKAGE = "ppo_and_friends"
ENVIRONMENTS = "ppo_and_friends.environments"
POLICIES = "ppo_and_friends.policies"
SHIPPED = "results/policies"

# EnvPool has wheels for this platform only; on others, Gymnasium's environments are used instead.
ENVPOOL_PLATFORM = "sys_platform == 'linux' and platform_machine == 'x86_64'"

setup(
    name="ppo-and-friends",
    version="0.1.0",
    description="MPI-distributed proximal policy optimisation (PPO), with plug-ins for everything beyond PPO",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
        ENVIRONMENTS,
        *(f"{ENVIRONMENTS}.{name}" for name in find_packages("environments")),
        *([POLICIES] if (ROOT / SHIPPED).is_dir() else []),
    ],
    package_dir={ENVIRONMENTS: "environments", POLICIES: SHIPPED},
    package_data={PACKAGE: ["py.typed"], POLICIES: ["*/*.json", "*/checkpoints/latest", "*/checkpoints/*/*"]},
    install_requires=[
        "ale-py>=0.12",
        "box2d>=2.3.10",
        "cloudpickle>=3",
        "dill>=0.4",
        f"envpool>=1.2; {ENVPOOL_PLATFORM}",
        "filelock>=3.16",
        "greenlet>=3.1",
        "gymnasium>=1.4,<2",
        "imageio>=2.36",
        "imageio-ffmpeg>=0.6",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "mpi4py>=4.1",
        "mujoco>=3.3,!=4.0.0",
        "numpy>=2.1",
        "opencv-python-headless>=4.10",
        "pillow>=11",
        "plotly>=6",
        "pydantic>=2.10",
        "pygame>=2.6",
        "rich>=14",
        "pyyaml>=6",
        "safetensors>=0.5",
        "tensorboard>=2.18",
        "torch>=2.6",
        "tyro>=1.0",
    ],
    extras_require={
        # MPI libraries and mpirun, for machines without MPI. Leave this extra out on a cluster, so that
        # mpi4py uses the cluster's own MPI, which works with its srun.
        "mpi": ["mpich>=5"],
        "test": [
            "hypothesis>=6.100",
            "lbforaging>=2",
            "mpe2>=1.1",
            "mypy>=2",
            "onnx>=1.18",
            "onnxruntime>=1.22",
            "onnxscript>=0.4",
            "pettingzoo>=1.25",
            "popgym>=1.0.7",
            "pytest>=9",
            "pytest-timeout>=2.4",
            "ruff>=0.17",
            "rware>=2",
        ],
        "memory": ["popgym>=1.0.7"],
        "petting": ["mpe2>=1.1", "pettingzoo>=1.25"],
        "lbforaging": ["lbforaging>=2"],
        "rware": ["rware>=2"],
        # arch, which rliable needs, doesn't work with pandas 3.
        "study": ["pandas<3", "rliable>=1.2"],
        "tune": ["optuna>=5"],
        "minari": ["minari[hdf5]>=0.5"],
        "hub": ["huggingface-hub>=2"],
        "track": ["wandb>=0.20"],
        "mlflow": ["mlflow>=2.13"],
        "export": ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.4"],
        "bench": ["psutil>=6", "scipy>=1.14"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"],
    },
    entry_points={"console_scripts": ["ppo-and-friends = ppo_and_friends.cli.main:main"]},
    zip_safe=False,
)

"""Checkpoints whose checksums are right and whose content isn't a run's: forged, or another version's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

FILES = ("tensors.safetensors", "state.json")


@dataclass
class Content:
    """What a checkpoint holds; the tensors and the state may also be bytes, which are written as they are."""

    tensors: Any
    state: Any
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Forgery:
    """One way in which a checkpoint's content can be wrong."""

    name: str
    """For people."""

    change: Callable[[Content], None]
    """Applied to an intact checkpoint's content."""

    told: str
    """Must be in the message that refuses it."""

    training_only: bool = False
    """Whether what is wrong matters to training alone, such as the optimizer's state."""


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def rewrite(path: Path, change: Callable[[Content], None]) -> None:
    """Change a checkpoint's content, in place, and make its checksums right again."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    state = json.loads((path / "state.json").read_bytes())
    content = Content(safetensors.torch.load((path / FILES[0]).read_bytes()), state, manifest)
    change(content)
    raw = (content.tensors, content.state)
    tensors = raw[0] if isinstance(raw[0], bytes) else safetensors.torch.save(raw[0])
    written = {FILES[0]: tensors, FILES[1]: raw[1] if isinstance(raw[1], bytes) else _json(raw[1])}
    for name, data in written.items():
        (path / name).write_bytes(data)
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.pop("sha256", None)
    manifest["sha256"] = hashlib.sha256(_json(manifest)).hexdigest()
    (path / "manifest.json").write_bytes(_json(manifest))


def _state(key: str, value: Any) -> Callable[[Content], None]:
    """Replaces what stands under a dotted key of the state."""

    def change(content: Content) -> None:
        *path, last = key.split(".")
        place = content.state
        for part in path:
            place = place[part]
        place[last] = value

    return change


def _whole(state: Any) -> Callable[[Content], None]:
    return lambda content: setattr(content, "state", state)


def _tensor(start: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Content], None]:
    """Changes the first tensor whose name begins so, the names in their order."""

    def apply(content: Content) -> None:
        name = min(name for name in content.tensors if name.startswith(start))
        content.tensors[name] = change(content.tensors[name]).contiguous()

    return apply


def _more(name: str) -> Callable[[Content], None]:
    return lambda content: content.tensors.update({name: torch.zeros(3)})


def _fewer(start: str) -> Callable[[Content], None]:
    return lambda content: content.tensors.pop(min(n for n in content.tensors if n.startswith(start)))


def _renamed(content: Content) -> None:
    name = min(name for name in content.tensors if name.startswith("network."))
    content.tensors["../../etc/passwd"] = content.tensors.pop(name)


def _poked(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def poke(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    return poke


def _huge_header(content: Content) -> None:
    content.tensors = (2**62).to_bytes(8, "little") + b"{}"


def _pickle(content: Content) -> None:
    content.tensors = b"\x80\x04cposix\nsystem\n(S'touch forged'\ntR."


WEIGHT, NORMALIZER, MOMENT = "network.", "friends.ObservationNormalizer.mean", "optimizer.ppo.exp_avg"

FORGERIES = (
    Forgery("state: a list", _whole([1]), "state.json"),
    Forgery("state: empty", _whole({}), "state.json: iteration is missing"),
    Forgery("state: no JSON", _whole(b"\x00"), "state.json"),
    Forgery("state: nested 5,000 levels deep", _whole(b'{"a":' * 5000 + b"1" + b"}" * 5000), "nested"),
    Forgery("state: nested 500 levels deep", _whole(b'{"a":' * 500 + b"1" + b"}" * 500), "nested"),
    Forgery("state: no identity", _state("identity", None), "state.json: identity"),
    Forgery("state: identity without spaces", _state("identity.action_space", {}), "identity.action_space"),
    Forgery(
        "state: a space of 10^12 numbers",
        _state("identity.observation_space.shape", [10**6, 10**6]),
        "identity.observation_space",
    ),
    Forgery("state: network is text", _state("identity.network", "big"), "identity.network"),
    Forgery("state: timesteps below 0", _state("timesteps", -1), "state.json: timesteps"),
    Forgery("state: timesteps not the manifest's", _state("timesteps", 1), "state.json: timesteps is 1"),
    Forgery("state: iteration is text", _state("iteration", "3"), "state.json: iteration"),
    Forgery("state: seconds are NaN", _state("seconds", float("nan")), "state.json: seconds"),
    Forgery("state: scores are text", _state("recent_scores", ["x"]), "state.json: recent_scores"),
    Forgery("state: last numbers are a list", _state("latest", [1]), "state.json: latest"),
    Forgery("state: highest numbers are text", _state("highest", {"kl": "x"}), "state.json: highest"),
    Forgery("state: masks' space is text", _state("identity.mask_space", "x"), "identity.mask_space"),
    Forgery("state: agents are a number", _state("identity.agents", 3), "identity.agents"),
    Forgery("tensors: none", lambda content: content.tensors.clear(), "no tensor of a network"),
    Forgery("tensors: odd name", _renamed, "'../../etc/passwd'"),
    Forgery("tensors: one too many in the network", _more("network.other"), "network.other"),
    Forgery("tensors: one missing in the network", _fewer(WEIGHT), "is missing"),
    Forgery("tensors: wrong shape", _tensor(WEIGHT, lambda tensor: tensor[..., None]), "has shape"),
    Forgery("tensors: integers for floats", _tensor(WEIGHT, lambda tensor: tensor.long()), "int64"),
    Forgery("tensors: float64 for float32", _tensor(WEIGHT, lambda tensor: tensor.double()), "float64"),
    Forgery("tensors: a weight is NaN", _tensor(WEIGHT, _poked(float("nan"))), "NaN or infinite"),
    Forgery("tensors: a weight is infinite", _tensor(WEIGHT, _poked(float("inf"))), "NaN or infinite"),
    Forgery("tensors: a normaliser's mean is NaN", _tensor(NORMALIZER, _poked(float("nan"))), "NaN or"),
    Forgery(
        "tensors: a normaliser's mean has another shape",
        _tensor(NORMALIZER, lambda tensor: tensor[:1]),
        "has shape",
    ),
    Forgery(
        "tensors: one too many of a friend",
        _more("friends.ObservationNormalizer.other"),
        "friends.ObservationNormalizer.other",
    ),
    Forgery("tensors: a huge header", _huge_header, "tensors.safetensors"),
    Forgery("tensors: a pickle", _pickle, "tensors.safetensors"),
    Forgery("optimizer: a moment is NaN", _tensor(MOMENT, _poked(float("nan"))), "NaN or infinite"),
    Forgery(
        "optimizer: a moment has another shape",
        _tensor(MOMENT, lambda t: t[1:]),
        "has shape",
        training_only=True,
    ),
    Forgery("optimizer: a moment is missing", _fewer(MOMENT), "has not all of"),
    Forgery("optimizer: one too many", _more("optimizer.ppo.other"), "optimizer.ppo.other"),
    Forgery(
        "manifest: experiment is a list",
        lambda content: content.manifest.update(experiment=[]),
        "manifest.json: experiment",
    ),
    Forgery(
        "manifest: timesteps are text",
        lambda content: content.manifest.update(timesteps="1"),
        "manifest.json",
    ),
    Forgery(
        "manifest: format is null", lambda content: content.manifest.update(format=None), "manifest.json"
    ),
)
"""Each must be refused, and the previous checkpoint taken."""

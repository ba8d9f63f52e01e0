"""Masks of legal actions: from every place and backend, in the update, saved, loaded and evaluated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends import load_policy
from ppo_and_friends.errors import EnvironmentFault, IncompatibleState, UsageError
from ppo_and_friends.evaluation.evaluate import evaluate
from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, restore_trainer
from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, NetworkSettings, friend
from tests.engine import experiment, on_ranks
from tests.friends.test_together import spec
from tests.test_trained_policy import saved

DISCRETE = spaces.Discrete(4, start=1)


class Masked(gymnasium.Env[Any, Any]):
    """Observes its mask's seed and the time; punishes and counts illegal actions. Episodes of 5 steps.

    Choice c of an action allows the alternatives that a random draw per step says, at least one. ``place`` is
    where the mask is said; ``fault`` spoils the mask of step ``at``. In the end nothing is legal.
    """

    def __init__(
        self, action_space: Any = DISCRETE, place: str = "info", fault: str = "", at: int = 3
    ) -> None:
        self.action_space, self.place, self.fault, self.at = action_space, place, fault, at
        self.nvec = {
            spaces.Discrete: lambda: [action_space.n],
            spaces.MultiDiscrete: lambda: action_space.nvec.tolist(),
            spaces.MultiBinary: lambda: [2] * action_space.n,
        }[type(action_space)]()
        self.vector = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.observation_space: Any = self.vector
        if place == "observation":
            mask = spaces.Box(0, 1, (sum(self.nvec),), np.int8)
            self.observation_space = spaces.Dict(action_mask=mask, seen=self.vector)
        if place == "method":
            self.action_masks = lambda: self.mask
        self.t = self.steps = 0
        self.push = 1.0  # of every reward; friends that change environments change it

    def _result(self, over: bool = False) -> tuple[Any, dict[str, Any]]:
        legal = [self.np_random.permutation(n) < self.np_random.integers(1, n + 1) for n in self.nvec]
        self.mask: Any = np.concatenate(legal).astype(np.int8) * (not over)
        vector = np.array([self.mask @ np.arange(len(self.mask)), self.t], np.float32)
        self.legal = legal
        if self.fault and self.steps == self.at:
            spoilt = {"shape": self.mask[:-1], "dtype": self.mask * 1.0, "two": self.mask * 2, "none": None}
            self.mask = spoilt.get(self.fault, self.mask * 0)
        info = {"action_mask": self.mask} if self.place == "info" else {}
        if self.place == "observation":
            return {"action_mask": self.mask, "seen": vector}, info
        return vector, info

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._result()

    def step(self, action: Any) -> Any:
        start = getattr(self.action_space, "start", 0)
        choices = (np.asarray(action) - start).reshape(-1)
        for choice, legal in zip(choices, self.legal, strict=True):
            assert legal[choice], f"{action} isn't legal by {self.legal}"
        self.t += 1
        self.steps += 1
        observation, info = self._result(self.t == 5)
        return observation, self.push * float(choices.sum()), self.t == 5, False, info


def settings(
    make: Callable[..., Any] = Masked,
    *friends: Any,
    backend: Any = "gymnasium",
    action_masks: Any = "auto",
    network: Any = None,
    **changes: Any,
) -> Experiment:
    environment = EnvironmentSettings(
        id="Toy-v0", factory=make, num_envs=6, backend=backend, action_masks=action_masks
    )
    sizes: dict[str, Any] = {"num_envs": 6, "rollout_timesteps": 6 * 16, "minibatch_size": 48, "epochs": 2}
    chosen = NetworkSettings(**({"actor_hidden": (8,), "critic_hidden": (8,)} | (network or {})))
    return experiment(environment, friends, network=chosen, precision="float64", **sizes | changes)


def iterate(trainer: Trainer, _: Any, iterations: int = 2) -> list[dict[str, float]]:
    return [trainer.train_iteration() for _ in range(iterations)]


SPACES = {
    "Discrete": DISCRETE,
    "MultiDiscrete": spaces.MultiDiscrete([2, 5, 3]),
    "MultiBinary": spaces.MultiBinary(3),
}


@pytest.mark.parametrize("place", ["info", "observation", "method"])
@pytest.mark.parametrize("kind", SPACES)
def test_only_legal_actions_are_taken(kind: str, place: str) -> None:
    """The environment asserts that each action is legal; the ratios of the first update are 1."""
    chosen = settings(partial(Masked, SPACES[kind], place), epochs=1, minibatch_size=96)

    def work(trainer: Trainer, _: Any) -> None:
        first, second = iterate(trainer, None)
        assert abs(first["kl"]) < 1e-12 and first["clip_fraction"] == 0.0  # one gradient step: nothing moved
        assert np.isfinite(list(second.values())).all() and second["entropy"] > 0.0
        rollout = trainer.collector.rollout
        assert rollout.observations["policy"].shape[-1] == 2  # the mask is no input
        assert rollout.observations["action_mask"].dtype == torch.bool

    on_ranks(chosen, 1, work)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_masks_belong_to_their_observations_after_resets_too(backend: str) -> None:
    """The first observed number is the sum of the legal alternatives' numbers."""

    def work(trainer: Trainer, _: Any) -> None:
        for _ in range(2):
            rollout = trainer.collect()
            sums = rollout.observations["action_mask"].double() @ torch.arange(4.0, dtype=torch.float64)
            seen, over = rollout.observations["policy"], rollout.observations["policy"][..., 1] == 5
            assert over.sum() >= 6 and rollout.episode_starts[1:].sum() >= 6
            torch.testing.assert_close(sums[~over], seen[..., 0][~over])
            assert rollout.observations["action_mask"][over].all()  # where nothing is done

    on_ranks(settings(backend=backend), 1, work)


@pytest.mark.parametrize("memory", [None, "gru"])
def test_the_number_of_ranks_does_not_matter(memory: str | None) -> None:
    chosen = settings(partial(Masked, SPACES["MultiDiscrete"]), network={"memory": memory})

    def work(trainer: Trainer, _: Any) -> dict[str, Any]:
        iterate(trainer, None, 3)
        return {name: tensor.detach().numpy().copy() for name, tensor in trainer.agent.tensors().items()}

    (alone,) = on_ranks(chosen, 1, work)
    for found in on_ranks(chosen, 3, work):
        for name, value in found.items():
            np.testing.assert_allclose(value, alone[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", SPACES)
def test_kernels_equal_what_they_replace(kind: str) -> None:
    from dataclasses import replace

    def work(trainer: Trainer, _: Any) -> tuple[Any, Any]:
        return iterate(trainer, None, 3)[-1], trainer.optimizer.parameters.detach().clone()

    chosen = settings(partial(Masked, SPACES[kind]), entropy_coefficient=0.01)
    ((fast, parameters),) = on_ranks(chosen, 1, work)
    ((plain, expected),) = on_ranks(replace(chosen, kernels="plain"), 1, work)
    torch.testing.assert_close(parameters, expected, rtol=1e-9, atol=1e-9)
    for name in ("entropy", "kl", "policy_loss"):
        assert fast[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("shape", r"shape \[3\], not \[4\], one for each action"),
        ("dtype", "dtype float64, not bool or integers 0 and 1"),
        ("two", "2 is neither 0 nor 1"),
        ("none", "is missing"),
        ("zeros", "no action is legal"),
    ],
)
def test_a_bad_mask_is_named_with_environment_step_and_key(fault: str, problem: str) -> None:
    from ppo_and_friends.distributed.layout import Layout
    from ppo_and_friends.vector.factory import make_vector_env

    made = iter([partial(Masked), partial(Masked, fault=fault)])
    environment = settings(lambda: next(made)()).environment
    envs = make_vector_env(environment, Layout(7, 5, 2))
    envs.reset(0)
    with pytest.raises(EnvironmentFault, match=rf"^environment 6, step 3, action_mask: .*{problem}"):
        for _ in range(4):
            rows = envs.env._masks  # type: ignore[attr-defined]
            envs.step(rows.argmax(1) + 1)


NESTED = spaces.Dict(
    keys=spaces.MultiBinary(1),
    mode=spaces.Tuple([spaces.Discrete(3), spaces.MultiDiscrete([2, 2])]),
    push=spaces.Box(-1.0, 1.0, (2,)),
)


@pytest.mark.parametrize(
    ("space", "given", "expected"),
    [
        (spaces.Discrete(3), [True, False, True], "101"),
        (spaces.Discrete(3), np.array([1, 0, 1], np.uint8), "101"),
        (spaces.MultiDiscrete([2, 3]), (np.array([0, 1], np.int8), np.array([1, 0, 1], np.int8)), "01101"),
        (spaces.MultiDiscrete([2, 3]), [[0, 1], [1, 0, 1]], "01101"),
        (spaces.MultiDiscrete([2, 2]), np.array([[0, 1], [1, 0]], bool), "0110"),
        (spaces.MultiBinary(2), np.array([[0, 1], [1, 1]]), "0111"),
        (NESTED, {"keys": [1, 0], "mode": ([0, 1, 0], [[1, 1], [0, 1]])}, "100101101"),
        (NESTED, np.array([1, 0, 0, 1, 0, 1, 1, 0, 1]), "100101101"),
    ],
)
def test_masks_are_taken_in_every_form(space: Any, given: Any, expected: str) -> None:
    from ppo_and_friends.vector.masks import as_mask, mask_space

    mask = as_mask(given, space)
    assert mask_space(space).contains(mask)
    assert "".join(map(str, mask.astype(int))) == expected


class Nested(gymnasium.Env[Any, Any]):
    """One action is legal in each choice; the mask is nested like the action space."""

    action_space = NESTED
    observation_space = spaces.Box(0.0, 1.0, (1,))

    def _result(self) -> Any:
        self.choice = int(self.np_random.integers(2))
        binary, three = np.eye(2, dtype=bool), np.eye(3, dtype=bool)
        mode = (three[2 * self.choice], np.concatenate((binary[1], binary[self.choice])))
        return np.zeros(1, np.float32), {"action_mask": {"keys": binary[self.choice], "mode": mode}}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._result()

    def step(self, action: Any) -> Any:
        assert action["keys"][0] == self.choice and action["mode"][0] == 2 * self.choice
        assert action["mode"][1].tolist() == [1, self.choice]
        observation, info = self._result()
        return observation, 1.0, False, False, info


def test_nested_actions_are_masked() -> None:
    on_ranks(settings(Nested), 1, iterate)


def test_nested_choices_are_named() -> None:
    from ppo_and_friends.vector.masks import dead_end

    masks = np.array([[1, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1]], bool)
    assert dead_end(masks, (2, 3, 1)) == (1, "no action is legal for choice 1 of 3")
    assert dead_end(masks, (2, 3, 1), np.array([False, True])) is None


def test_a_setting_turns_them_off_or_says_where_they_are() -> None:
    def work(trainer: Trainer, _: Any) -> list[str]:
        return list(trainer.collector.rollout.observations)

    in_observation = partial(Masked, place="observation")
    assert on_ranks(settings(in_observation, action_masks="off"), 1, work) == [["policy"]]
    assert on_ranks(settings(in_observation), 1, work) == [["policy", "action_mask"]]
    for place in ("info", "observation", "method"):
        with pytest.raises(UsageError, match=f"environment.action_masks={place}"):
            other = "method" if place != "method" else "info"
            on_ranks(settings(partial(Masked, place=other), action_masks=place), 1, work)
    with pytest.raises(UsageError, match="no choices to mask"):
        from tests.engine import Identity

        continuous = partial(Identity, spaces.Box(-1.0, 1.0, (1,)))
        on_ranks(settings(continuous, action_masks="info"), 1, work)


def test_tasks_of_new_environments_keep_their_masks() -> None:
    """Curriculum makes environments anew where arguments change; their method is asked from then on."""
    curriculum = friend("Curriculum", arguments={"at": "1,2@100"})
    chosen = settings(lambda at=9: Masked(place="method", at=at), curriculum)
    on_ranks(chosen, 1, partial(iterate, iterations=3))


def checkpoint_of(trainer: Trainer, _: Any) -> Checkpoint:
    iterate(trainer, None)
    tensors, plain = capture(trainer, 1.0)
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return Checkpoint(Path("saved"), plain["timesteps"], copies, plain, {})


def test_a_run_is_resumed_with_masks_as_it_was() -> None:
    (checkpoint,) = on_ranks(settings(), 1, checkpoint_of)
    on_ranks(settings(), 1, lambda trainer, _: restore_trainer(trainer, checkpoint))
    del checkpoint.state["identity"]["mask_space"]
    with pytest.raises(IncompatibleState, match="trained without the environment's action masks"):
        on_ranks(settings(), 1, lambda trainer, _: restore_trainer(trainer, checkpoint))


def test_a_run_with_masks_is_not_resumed_without() -> None:
    (checkpoint,) = on_ranks(settings(), 1, checkpoint_of)
    with pytest.raises(IncompatibleState, match="mask_space"):
        on_ranks(settings(action_masks="off"), 1, lambda trainer, _: restore_trainer(trainer, checkpoint))


@pytest.mark.parametrize("place", ["info", "observation", "method"])
def test_evaluation_takes_legal_actions(place: str, tmp_path: Path) -> None:
    chosen = settings(partial(Masked, place=place), network={"memory": "gru"} if place == "info" else None)
    saved(tmp_path, chosen, 1)
    policy = load_policy(tmp_path, trust=True)
    for deterministic in (True, False):
        found = evaluate(
            policy.agent.policy(), chosen.environment, episodes=3, seed=1, deterministic=deterministic
        )
        assert found.lengths.tolist() == [5, 5, 5]
    with pytest.raises(UsageError, match="isn't told which actions are legal"):
        off = settings(partial(Masked), action_masks="off").environment
        evaluate(policy.agent.policy(), off, episodes=1, seed=1)
    spoilt = settings(partial(Masked, place=place, fault="zeros")).environment
    with pytest.raises(EnvironmentFault, match="test episode 0, step 3: action_mask no action is legal"):
        evaluate(policy.agent.policy(), spoilt, episodes=1, seed=1)


def test_a_loaded_policy_takes_a_mask(tmp_path: Path) -> None:
    saved(tmp_path, settings(partial(Masked, place="observation")), 1)
    policy = load_policy(tmp_path, trust=True)
    seen = {"seen": np.zeros(2, np.float32)}
    for choice in range(4):
        mask = np.arange(4) == choice
        assert policy(seen, action_mask=mask) == choice + 1
        assert policy({**seen, "action_mask": mask.astype(np.int8)}) == choice + 1
    batch = {"seen": np.zeros((4, 2), np.float32)}
    assert policy(batch, action_mask=np.eye(4, dtype=bool)).tolist() == [1, 2, 3, 4]
    for given, problem in (
        (None, "was trained with action masks"),
        (np.zeros(4, bool), "no action is legal"),
        (np.ones(3, bool), r"shape \[3\], not \[4\]"),
        (np.ones(4), "dtype float64"),
    ):
        with pytest.raises(UsageError, match=problem):
            policy(seen, action_mask=given)
    for given, problem in (
        (np.ones((1, 4), bool), "1 rows for 4 observations"),
        (np.ones((0, 4), bool), "0 rows for 4 observations"),
        (True, "True for 4 observations"),
        (np.ones(4, bool), r"shape \[\], not \[4\]"),
    ):
        with pytest.raises(UsageError, match=problem):
            policy(batch, action_mask=given)


def test_a_policy_without_masks_refuses_one(tmp_path: Path) -> None:
    saved(tmp_path, settings(action_masks="off"), 0)
    with pytest.raises(UsageError, match="trained without action masks"):
        load_policy(tmp_path, trust=True)(np.zeros(2, np.float32), action_mask=np.ones(4, bool))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_friend_works_with_masks_or_refuses_by_name(name: str) -> None:
    """The environment asserts that actions are legal."""
    try:
        (metrics,) = on_ranks(settings(Masked, spec(name, DISCRETE), epochs=1), 1, iterate)
    except UsageError as error:
        assert name in str(error) and len(str(error).splitlines()) <= 2
        return
    assert np.isfinite([metrics[-1][key] for key in ("policy_loss", "value_loss", "entropy", "kl")]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPACES)
def test_the_exported_policy_takes_a_mask(kind: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    from ppo_and_friends.policy.export import export_onnx

    place = {"Discrete": "observation", "MultiDiscrete": "info", "MultiBinary": "method"}[kind]
    network = {"memory": "gru"} if kind == "Discrete" else None
    saved(tmp_path, settings(partial(Masked, SPACES[kind], place), network=network), 1)
    policy = load_policy(tmp_path, trust=True)
    session = onnxruntime.InferenceSession(str(export_onnx(policy, tmp_path / "policy.onnx")))
    env = Masked(SPACES[kind], place)
    env.reset(seed=1)
    inputs = {each.name: each for each in session.get_inputs()}
    assert inputs["action_mask"].type == "tensor(bool)"
    assert inputs["action_mask"].shape[1:] == [sum(env.nvec)]
    (seen,) = (key for key in inputs if key.startswith("observations"))
    for _ in range(20):
        env._result()
        vector, mask = env.np_random.normal(size=2).astype(np.float32), env.mask.astype(bool)
        given: dict[str, Any] = {seen: vector[None], "action_mask": mask[None]}
        if network:
            given["state.memory"] = np.zeros((1, *inputs["state.memory"].shape[1:]))
        policy.reset()
        own = policy({"seen": vector} if place == "observation" else vector, action_mask=mask)
        np.testing.assert_array_equal(session.run(["actions"], given)[0][0], own)

"""Mirror maps in the simulators themselves, and what the friend makes of them."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.box2d import lunar_lander
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.mirror_maps import BODIES, is_mirror, joined, repeated
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.friends.symmetry import SymmetryAugmentation
from ppo_and_friends.settings.experiment import friend
from tests.friends.runs import build, drift, experiment, trained

DRIFT: dict[str, Any] = {"observation": (-1, 3, 2), "action": (-1, -2)}


def mirrored(permutation: Any, vector: Any) -> NDArray[np.float64]:
    vector = np.asarray(vector, np.float64)
    image: NDArray[np.float64] = vector[np.abs(permutation) - 1] * np.sign(permutation)
    return image


def mirrored_action(name: str, env: Any, action: Any) -> Any:
    permutation = BODIES[name].action
    if isinstance(env.action_space, spaces.Discrete):
        return permutation[int(action)] - 1
    return mirrored(permutation, action).astype(env.action_space.dtype)


def pair(name: str) -> tuple[Any, Any]:
    first, second = gymnasium.make(name).unwrapped, gymnasium.make(name).unwrapped
    for seed, env in enumerate((first, second)):
        env.reset(seed=1)
        env.action_space.seed(seed)
    return first, second


def assert_mirror_images(name: str, first: Any, second: Any, steps: int, atol: float) -> None:
    """Step both with mirrored actions; observations and rewards must stay each other's images."""
    for _ in range(steps):
        action = first.action_space.sample()
        seen, reward, *ends = first.step(action)
        image, other, *other_ends = second.step(mirrored_action(name, second, action))
        np.testing.assert_allclose(image, mirrored(BODIES[name].observation, seen), atol=atol)
        assert other == pytest.approx(reward, abs=10 * atol) and other_ends[:2] == ends[:2]


@pytest.mark.parametrize("name", BODIES)
def test_maps_fit_and_undo_themselves(name: str) -> None:
    env = gymnasium.make(name)
    assert env.observation_space.shape == (len(BODIES[name].observation),)
    sizes: Any = env.action_space
    size = sizes.n if isinstance(sizes, spaces.Discrete) else sizes.shape[0]
    assert size == len(BODIES[name].action)
    assert is_mirror(BODIES[name].observation) and is_mirror(BODIES[name].action)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_classic_control(name: str) -> None:
    first, second = pair(name)
    first.state = np.random.default_rng(0).uniform(-0.2, 0.2, len(first.state))
    second.state = -first.state
    assert_mirror_images(name, first, second, 12, 1e-6)


PLANES = {
    "InvertedPendulum-v5": ((-1, -2), (-1, -2)),
    "InvertedDoublePendulum-v5": ((-1, -2, -3), (-1, -2, -3)),
    "Swimmer-v5": ((1, -2, -3, -4, -5), (1, -2, -3, -4, -5)),
}


def coordinates(name: str, model: Any) -> tuple[Any, Any]:
    """Maps of MuJoCo's positions and velocities: those observed, after the place x, y."""
    if name in PLANES:
        return PLANES[name]
    seen = BODIES[name].observation
    hidden = 1 if name == "Walker2d-v5" else 2
    positions = model.nq - hidden
    velocities = [
        number - positions if number > 0 else number + positions
        for number in seen[positions : positions + model.nv]
    ]
    return joined((1, -2)[:hidden], seen[:positions]), velocities


def even_out(model: Any) -> None:
    """Take away what isn't quite alike: the humanoids' knees and hips, and solvers that stop early."""
    model.opt.solver, model.opt.iterations = mujoco.mjtSolver.mjSOL_NEWTON, 100
    joints = {model.joint(index).name: index for index in range(model.njnt)}
    if "right_knee" in joints:
        model.jnt_stiffness[joints["right_knee"]] = model.jnt_stiffness[joints["left_knee"]]
        hips = [model.jnt_dofadr[joints[side]] for side in ("right_hip_y", "left_hip_y")]
        model.dof_armature[hips[0]] = model.dof_armature[hips[1]]


FREE = ("Ant-v5", "Humanoid-v5", "HumanoidStandup-v5")


@pytest.mark.parametrize(
    ("name", "lifted"),
    [*((name, 0.0) for name in BODIES if name.endswith("-v5")), *((name, 2.0) for name in FREE)],
)
def test_mujoco(name: str, lifted: float) -> None:
    """From random states on the ground (contact forces, too) and, where it can fly, above it."""
    first, second = pair(name)
    rng = np.random.default_rng(0)
    positions, velocities = coordinates(name, first.model)
    for _ in range(3):
        state = first.init_qpos + rng.uniform(-0.05, 0.05, first.model.nq)
        if lifted:
            state[2] += lifted
        speed = rng.uniform(-0.2, 0.2, first.model.nv)
        for env, q, v in (
            (first, state, speed),
            (second, mirrored(positions, state), mirrored(velocities, speed)),
        ):
            even_out(env.model)
            mujoco.mj_setConst(env.model, env.data)
            mujoco.mj_resetData(env.model, env.data)
            env.set_state(q, v)
        # The inverted pendulum's pole leans by 0.001.
        assert_mirror_images(name, first, second, 2, 1e-2 if name == "InvertedPendulum-v5" else 1e-5)


class NoNoise:
    """A generator that draws nothing but zeros."""

    def uniform(self, *_: Any) -> float:
        return 0.0


@pytest.mark.parametrize("name", ["LunarLander-v3", "LunarLanderContinuous-v3"])
def test_lunar_lander_in_the_air(name: str) -> None:
    first, second = pair(name)
    middle = lunar_lander.VIEWPORT_W / lunar_lander.SCALE / 2
    bodies = (first.lander, *first.legs), (second.lander, *second.legs[::-1])
    for body, image in zip(*bodies, strict=True):
        (x, y), (right, up) = body.position, body.linearVelocity
        image.position, image.angle = (2 * middle - x, y), -body.angle
        image.linearVelocity, image.angularVelocity = (-right, up), -body.angularVelocity
    for env in (first, second):
        env._np_random = NoNoise()
        env.prev_shaping = None
    assert_mirror_images(name, first, second, 15, 1e-3)


def test_bipedal_walker() -> None:
    name = "BipedalWalker-v3"
    first, second = pair(name)
    places = [(leg.position.copy(), leg.angle) for leg in first.legs]
    speeds = [(leg.linearVelocity.copy(), leg.angularVelocity) for leg in first.legs]
    for index, leg in enumerate(second.legs):
        other = (index + 2) % 4
        leg.position, leg.angle = places[other]
        leg.linearVelocity, leg.angularVelocity = speeds[other]
    map_ = BODIES[name]
    for _ in range(3):
        action = first.action_space.sample()
        seen = first.step(action)[0]
        image = second.step(mirrored_action(name, second, action))[0]
        # Where a hip's angle counts from differs by 0.1 between the legs.
        image[[4, 9]] += (-0.1, 0.1)
        np.testing.assert_allclose(image, mirrored(map_.observation, seen), atol=1e-2)


def test_joining_and_repeating() -> None:
    assert joined((2, 1), (-1,), (1, -2)) == (2, 1, -3, 4, -5)
    assert repeated((1, 3, 2), (1, -2)) == (1, -2, 5, -6, 3, -4)
    assert not is_mirror((2, 3, 1)) and not is_mirror((1, 1)) and not is_mirror((0, 1))
    assert not is_mirror((-2, 1))  # a quarter of a turn


@pytest.mark.parametrize("space", [spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)])
def test_minibatches_are_doubled_by_their_image(space: Any) -> None:
    turned = (-1, -2) if isinstance(space, spaces.Box) else (3, 2, 1)
    arguments = {"observation": (-1, 3, 2), "action": turned}
    trainer = build(experiment([friend("SymmetryAugmentation", **arguments)], drift(space)))
    doubled: list[Any] = []
    improve = trainer.improve_on

    def spy(minibatch: Any, controls: Any) -> Any:
        rows, count = len(minibatch.samples), minibatch.count
        stats = improve(minibatch, controls)
        doubled.append((rows, count, minibatch))
        return stats

    trainer.improve_on = spy  # type: ignore[method-assign]
    assert trainer.train_iteration()["kl"] >= 0.0
    rows, count, batch = doubled[0]
    assert batch.count == 2 * count and len(batch.samples) == len(batch.active) == 2 * rows
    seen = batch.observations["policy"]
    np.testing.assert_allclose(seen[rows:], np.stack([mirrored((-1, 3, 2), row) for row in seen[:rows]]))
    actions = batch.actions[:rows]
    image = -actions if isinstance(space, spaces.Box) else 2 - actions
    np.testing.assert_array_equal(batch.actions[rows:], image)
    for name in ("advantages", "value_targets", "old_log_probs"):
        tensor = getattr(batch, name)
        np.testing.assert_array_equal(tensor[rows:], tensor[:rows])


@pytest.mark.parametrize("method", ["augment", "loss"])
def test_the_policy_becomes_symmetric(method: str) -> None:
    """Left to itself the start's asymmetry stays; the friend takes most of it away."""

    def asymmetry(*friends: Any) -> float:
        settings = {"epochs": 10, "learning_rate": 3e-3}
        # A large first layer of the head, so that the beginning is not symmetric already.
        trainer, _ = trained(experiment(friends, ppo=settings, network={"actor_output_gain": 1.0}), 12)
        observations = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        source, signs = torch.tensor([0, 2, 1]), torch.tensor([-1.0, 1.0, 1.0])
        with torch.no_grad():
            here = trainer.network.policy(observations)[:, :2]
            there = trainer.network.policy(observations[:, source] * signs)[:, :2]
        return float((here + there).square().mean() / (here - there).square().mean())

    assert asymmetry(friend("SymmetryAugmentation", method=method, **DRIFT)) < 0.5 * asymmetry()


def test_statistics_of_observations_are_those_of_both_halves() -> None:
    friends = [friend("ObservationNormalizer"), friend("SymmetryAugmentation", **DRIFT)]
    trainer, _ = trained(experiment(friends, precision="float64"), 3)
    normalizer = next(each for each in trainer.friends if isinstance(each, ObservationNormalizer))
    mean, variance = normalizer.mean.numpy(), normalizer.variance.numpy()
    np.testing.assert_allclose(mirrored((-1, 3, 2), mean), mean, atol=1e-12)
    np.testing.assert_allclose(variance[[0, 2, 1]], variance, rtol=1e-12)
    # By hand: halves of means 1 and -1 and of variance 4 have mean 0 and variance 5 together.
    normalizer.mean.copy_(torch.tensor([1.0, 2.0, 4.0]))
    normalizer.variance.copy_(torch.tensor([4.0, 1.0, 3.0]))
    symmetry = next(each for each in trainer.friends if isinstance(each, SymmetryAugmentation))
    symmetry.before_update(trainer._scheduled_controls(trainer.progress, {}))
    np.testing.assert_allclose(normalizer.mean, [0.0, 3.0, 3.0])
    np.testing.assert_allclose(normalizer.variance, [5.0, 3.0, 3.0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no mirror map for Toy-v0"),
        ({"observation": (1, 2, 3)}, "both observation and action"),
        ({"observation": (2, 3, 1), "action": (1, 2)}, "that undoes itself"),
        ({"observation": (1, 2), "action": (1, 2)}, "don't fit"),
        ({"observation": (1, 2, 3), "action": (1,)}, "don't fit"),
        ({**DRIFT, "weight": -1.0}, "at least 0"),
    ],
)
def test_mistakes(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        build(experiment([friend("SymmetryAugmentation", **arguments)]))
    assert "SymmetryAugmentation" in str(caught.value) and len(str(caught.value).splitlines()) <= 2


def test_bounds_and_signs_that_do_not_fit_are_refused() -> None:
    uneven = drift(spaces.Box(np.array([-1.0, -2.0]), np.array([1.0, 1.0]), dtype=np.float64))
    with pytest.raises(UsageError, match="aren't alike in the mirror"):
        build(experiment([friend("SymmetryAugmentation", **DRIFT)], uneven))
    with pytest.raises(UsageError, match="Discrete without signs"):
        signs = {"observation": (-1, 3, 2), "action": (-1, 2)}
        build(experiment([friend("SymmetryAugmentation", **signs)], drift(spaces.Discrete(2))))


def test_conflicts() -> None:
    for other in ("ObservationHistory", "PreviousAction", "ICM"):
        with pytest.raises(UsageError, match=f"SymmetryAugmentation and {other}"):
            build(experiment([friend(other), friend("SymmetryAugmentation", **DRIFT)]))
    build(experiment([friend("ICM"), friend("SymmetryAugmentation", method="loss", **DRIFT)]))

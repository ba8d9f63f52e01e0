"""Whatever an environment does wrong names the environment, the step and the key."""

from __future__ import annotations

import re
import signal
import time
from contextlib import closing
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.vector.checks import CheckedVectorEnv
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.protocol import NO_SPACES, VectorStep
from tests.vector.toys import Broken, Clock, Spaces, toy

FAULTS = [
    ("raises", r"step: ZeroDivisionError: the pole fell off"),
    ("nan", r"observation\[1\]: nan is not a finite number"),
    ("infinite", r"observation\[2\]: inf is not a finite number"),
    ("shape", r"observation: shape \[4\], but its space has \[3\]"),
    ("dtype", r"observation: dtype <U1, but its space has float32"),
    ("complex", r"observation: dtype complex64, but its space has float32"),
    ("none", r"observation: shape \[\], but its space has \[3\]"),
    ("reward", r"reward: nan is not a finite number"),
    ("reward text", r"reward: str 'high' is not a number"),
    ("number as text", r"reward: str '1.0' is not a number"),
    ("huge reward", r"reward: an integer that is too large for a float"),
    ("exits", r"step: SystemExit: 0"),
    ("odd", r"step: Odd: and odder"),
    ("generator exit", r"step: GeneratorExit"),
    ("speechless", r"step: Speechless"),
    ("flag", r"terminated: float 0.5 is not a bool"),
    ("three values", r"step: returned something other than \(observation, reward, terminated"),
]

RAISING = ("raises", "exits", "odd", "generator exit", "speechless")
"""Shown with the line that raised."""


def run(settings: Any, steps: int = 5) -> None:
    env = make_vector_env(settings, Layout(total=9, first=4, local=3))
    try:
        env.reset(10)
        for _ in range(steps):
            env.step(np.zeros(3, np.int64))
    finally:
        env.close()


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_a_fault_names_environment_step_and_key(backend: str, fault: str, message: str) -> None:
    # The victim is the second of this rank's environments, whose first is number 4 of all.
    with pytest.raises(EnvironmentFault, match="^environment 5, step 2, " + message) as raised:
        run(toy(partial(Broken, fault), backend))
    _, *lines = str(raised.value).splitlines()
    assert len(lines) == (fault in RAISING)
    assert all("toys.py" in line for line in lines)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_only_users_press_ctrl_c(backend: str) -> None:
    settings = toy(partial(Broken, "ctrl-c"), backend)
    with (
        Interrupts(),
        pytest.raises(EnvironmentFault, match=r"^environment 5, step 2, step: KeyboardInterrupt"),
    ):
        run(settings)
    # Python's own handler raises it as well, but never in an environment's own process.
    with pytest.raises(KeyboardInterrupt if backend == "gymnasium" else EnvironmentFault):
        run(settings)


def test_a_second_ctrl_c_is_no_fault() -> None:
    class Pressed(Clock):
        def step(self, action: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return super().step(action)

    # The first finishes the iteration; the second, in a notebook, raises KeyboardInterrupt.
    with Interrupts(announce=lambda _: None, ends_process=False), pytest.raises(KeyboardInterrupt):
        run(toy(Pressed))


@pytest.mark.parametrize("close", ["raise SystemExit(3)", "raise KeyboardInterrupt", "time.sleep(9)", "pass"])
def test_closing_is_no_matter_of_the_environment(close: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's, if it limits the time of tests
    try:
        start = time.monotonic()
        env = SimpleNamespace(close=lambda: exec(close, {"time": time}))
        with Interrupts():
            returned = close_env(env, "environment 3", seconds=0.05)
        assert close_env(object(), "environment 4")  # which has no such method
        assert time.monotonic() - start < 15 and returned == ("sleep" not in close)
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)
    said = "environment 3: close didn't return within 0.05 s; it is left as it is.\n"
    assert capsys.readouterr().err == ("" if returned else said)


def test_the_original_exception_is_chained() -> None:
    with pytest.raises(EnvironmentFault) as raised:
        run(toy(partial(Broken, "raises")))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_automatic_resets_are_checked_and_counted(backend: str) -> None:
    with pytest.raises(EnvironmentFault, match=r"^environment 5, step 3, reset: RuntimeError: no track"):
        run(toy(partial(Broken, "raises in reset"), backend))


@pytest.mark.timeout(60)
def test_a_handler_of_the_main_programs_does_not_keep_processes_alive() -> None:
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(EnvironmentFault, match="no track"):
            run(toy(partial(Broken, "raises in reset"), "async"))
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_dead_process_is_found() -> None:
    with closing(make_vector_env(toy(partial(Broken, "dies"), "async"), Layout(9, 4, 3))) as env:
        env.reset(10)
        start = time.perf_counter()
        with pytest.raises(
            EnvironmentFault, match=r"environment 5 \(exit code 9\), step 2: its process died"
        ):
            for _ in range(5):
                env.step(np.zeros(3, np.int64))
    assert time.perf_counter() - start < 8.0


def test_the_first_reset() -> None:
    class Never(Clock):
        def reset(self, **_: Any) -> Any:
            raise OSError("no joystick")

    with pytest.raises(
        EnvironmentFault, match=r"^environment 4, the first reset, reset: OSError: no joystick"
    ):
        run(toy(Never))


def test_a_constructor_that_raises() -> None:
    with pytest.raises(EnvironmentFault, match="Toy-v0: its factory failed: ValueError: no wheels"):
        run(toy(partial(_raise, ValueError("no wheels"))))


def _raise(error: Exception, **_: Any) -> Any:
    raise error


def test_missing_and_wrong_parts_of_a_dict() -> None:
    space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "k": spaces.Discrete(3)})

    class Partial(Spaces):
        def step(self, action: Any) -> Any:
            return self.answer, 0.0, False, False, {}

    for answer, message in [
        ({"x": np.zeros(2, np.float32)}, r'observation\["k"\]: missing from an observation of type dict'),
        (7, r'observation\["k"\]: missing from an observation of type int'),
        ({"x": np.zeros(2, np.float32), "k": 3}, r'observation\["k"\]: 3 is outside Discrete\(3\)'),
        (
            {"x": np.zeros(2, np.float32), "k": 1.5},
            r'observation\["k"\]: dtype float64, but its space has int64',
        ),
        ({"x": np.array([0, np.nan], np.float32), "k": 1}, r'observation\["x"\]\[1\]: nan is not'),
    ]:
        Partial.answer = answer  # type: ignore[attr-defined]
        with pytest.raises(EnvironmentFault, match="^environment 4, step 1, " + message):
            run(toy(partial(Partial, space)))


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
@pytest.mark.parametrize("number", [1e39, -1e300])
def test_numbers_that_single_precision_cannot_hold(backend: str, number: float) -> None:
    class Far(Broken):
        """1e39 is finite in double precision; single precision ends at 3.4e38."""

        def __init__(self, what: str, dtype: Any) -> None:
            space = spaces.Dict({"x": spaces.Box(-np.inf, np.inf, (3,), dtype)})
            super().__init__("", observation_space=space)
            self.what, self.dtype = what, dtype

        def _observe(self) -> Any:
            numbers = np.array([self.seed, self.episode, self.t], self.dtype)
            if self.seed == self.victim and self.t == 2 and self.what == "observation":
                with np.errstate(over="ignore"):
                    numbers[1] = number
            return {"x": numbers}

        def step(self, action: Any) -> Any:
            observation, reward, *rest = super().step(action)
            far = self.what == "reward" and self.seed == self.victim and self.t == 2
            return observation, number if far else reward, *rest

    beyond = "is beyond single precision's range, which ends at 3.4e+38"
    for what, dtype, message in [
        ("observation", np.float64, f'observation["x"][1]: {number} {beyond}'),
        ("observation", np.float32, "inf is not a finite number, or was one beyond 3.4e+38"),
        ("reward", np.float32, f"reward: {number} {beyond}"),
    ]:
        with pytest.raises(EnvironmentFault, match="^environment 5, step 2, .*" + re.escape(message)):
            run(toy(partial(Far, what, dtype), backend))
    run(toy(partial(Far, "nothing", np.float64), backend))


def test_harmless_casts_are_allowed() -> None:
    class Lists(Clock):
        def _observe(self) -> Any:
            return [float(self.seed), 0.0, 0.0]  # python floats for a float32 space

    run(toy(Lists))


def test_unsupported_and_differing_spaces_are_refused_at_the_start() -> None:
    for backend in ("gymnasium", "async"):
        with pytest.raises(UsageError, match="Text"):
            run(toy(partial(Spaces, spaces.Text(3)), backend))
        with pytest.raises(UsageError, match=r'action\["a"\] space Text'):
            run(toy(partial(Spaces, spaces.Discrete(2), spaces.Dict({"a": spaces.Text(2)})), backend))
    sizes = iter([2, 3, 2])
    with pytest.raises(UsageError, match="don't all have the same spaces"):
        run(toy(lambda: Spaces(spaces.Discrete(next(sizes)))))


class Stub:
    """A backend that always gives the same step."""

    device = None
    other_spaces = NO_SPACES

    def __init__(self, step: VectorStep) -> None:
        self.given = step
        self.num_envs = len(step.rewards)
        self.observation_space = spaces.Box(-np.inf, np.inf, (24,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, seed: int) -> Any:
        return self.given.observations

    def step(self, actions: Any) -> VectorStep:
        return self.given

    def close(self) -> None:
        pass


def stub(num_envs: int = 16) -> Stub:
    flags = np.zeros(num_envs, np.bool_)
    rewards = np.zeros(num_envs, np.float32)
    observations = np.zeros((num_envs, 24), np.float32)
    return Stub(VectorStep({"policy": observations}, rewards, flags, flags, ~flags, flags, rewards, flags))


def test_batches_of_a_backend_are_checked() -> None:
    backend = stub()
    env = CheckedVectorEnv(backend, first=100)
    env.reset(0)
    for name, value, message in [
        (
            "observations",
            {"policy": np.zeros((16, 23), np.float32)},
            r"batch shape \[16, 23\], not \[16, 24\]",
        ),
        ("observations", {"policy": np.zeros((16, 24))}, "dtype float64, not float32"),
        ("rewards", np.zeros(15), r"reward: batch shape \[15\], not \[16\]"),
        ("terminated", np.zeros(16), "terminated: dtype float64, not bool"),
    ]:
        before = getattr(backend.given, name)
        setattr(backend.given, name, value)
        with pytest.raises(EnvironmentFault, match=message):
            env.step(np.zeros(16))
        setattr(backend.given, name, before)
    backend.given.true_rewards = np.where(np.arange(16) == 7, np.inf, 0.0)
    with pytest.raises(EnvironmentFault, match=r"^environment 107, step 5, reward: inf"):
        env.step(np.zeros(16))


def test_checks_are_cheap() -> None:
    env, actions = CheckedVectorEnv(stub(), first=0), np.zeros(16)
    best = min(_seconds(env, actions, 300) / 300 for _ in range(10))
    assert best < 20e-6  # about 3 us on an idle core


def _seconds(env: CheckedVectorEnv, actions: Any, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        env.step(actions)
    return time.perf_counter() - start

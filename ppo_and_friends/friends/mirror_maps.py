"""Mirror maps: what observations and actions become when left and right change places.

A map is a signed permutation of 1 to n, as in mathematics: number i of the mirrored vector is number
``abs(map[i])`` of the vector, with the sign of ``map[i]``. Mirroring twice gives the vector back. Of
a Discrete space the map permutes the choices, and has no signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SignedPermutation = tuple[int, ...]

SAGITTAL_VECTOR = (1, -2, 3)
"""A velocity or force (x, y, z), mirrored in the plane y = 0: left and right of what moves along x."""

SAGITTAL_ROTATION = (-1, 2, -3)
"""An angular velocity or torque in that plane's mirror, where the sense of rotations about x and z turns."""

SAGITTAL_QUATERNION = (1, -2, 3, -4)
"""An orientation (w, x, y, z) there."""

SAGITTAL_INERTIA = (1, 2, 3, -4, 5, -6, 7, -8, 9, 10)
"""MuJoCo's ``cinert`` there: xx, yy, zz, xy, xz, yz, mass times x, y, z, mass."""


@dataclass(frozen=True)
class Mirror:
    """How a body's observations and actions are mirrored."""

    observation: SignedPermutation
    action: SignedPermutation


def is_mirror(permutation: Sequence[int]) -> bool:
    """Whether it is a signed permutation that undoes itself."""
    sources = [abs(number) - 1 for number in permutation]
    if sorted(sources) != list(range(len(permutation))):
        return False
    return all(
        sources[source] == index and (permutation[source] > 0) == (permutation[index] > 0)
        for index, source in enumerate(sources)
    )


def joined(*parts: Sequence[int]) -> SignedPermutation:
    """Maps of neighbouring parts of a vector as one map of the whole."""
    whole: list[int] = []
    for part in parts:
        start = len(whole)
        whole += [number + start if number > 0 else number - start for number in part]
    return tuple(whole)


def repeated(bodies: Sequence[int], part: Sequence[int]) -> SignedPermutation:
    """The map of a vector that has ``part`` for each of some bodies, which change places by ``bodies``."""
    size = len(part)
    return tuple(
        (abs(number) + (body - 1) * size) * (1 if number > 0 else -1) for body in bodies for number in part
    )


def _walker() -> Mirror:
    legs = (4, 5, 6, 1, 2, 3)
    return Mirror(joined((1, 2), legs, (1, 2, 3), legs), legs)


def _ant() -> Mirror:
    # Legs 1 (front left) and 4 change places, and 2 (back left) and 3; of each, hip and ankle.
    joints = (-7, 8, -5, 6, -3, 4, -1, 2)
    bodies = (1, 11, 12, 13, 8, 9, 10, 5, 6, 7, 2, 3, 4)
    contact = repeated(bodies, joined(SAGITTAL_ROTATION, SAGITTAL_VECTOR))
    return Mirror(
        joined((1,), SAGITTAL_QUATERNION, joints, SAGITTAL_VECTOR, SAGITTAL_ROTATION, joints, contact),
        (-3, 4, -1, 2, -7, 8, -5, 6),  # the actuators begin with leg 4
    )


def _humanoid() -> Mirror:
    # Hip x, z, y and knee of the right leg and of the left; two shoulder joints and elbow of the arms.
    limbs = joined((5, 6, 7, 8, 1, 2, 3, 4), (-4, -5, 6, -1, -2, 3))
    joints = joined((-1, 2, -3), limbs)  # the abdomen's z, y, x
    bodies = joined((1, 2, 3), (4, 5, 6, 1, 2, 3), (3, 4, 1, 2))
    spatial = repeated(bodies, joined(SAGITTAL_ROTATION, SAGITTAL_VECTOR))
    return Mirror(
        joined(
            (1,),
            SAGITTAL_QUATERNION,
            joints,
            SAGITTAL_VECTOR,
            SAGITTAL_ROTATION,
            joints,
            repeated(bodies, SAGITTAL_INERTIA),
            spatial,
            joints,
            spatial,
        ),
        joined((1, -2, -3), limbs),  # the actuators' abdomen is y, z, x
    )


_LANDER = (-1, 2, -3, 4, -5, -6, 8, 7)

BODIES: dict[str, Mirror] = {
    "CartPole-v1": Mirror((-1, -2, -3, -4), (2, 1)),
    "Pendulum-v1": Mirror((1, -2, -3), (-1,)),
    "Acrobot-v1": Mirror((1, -2, 3, -4, -5, -6), (3, 2, 1)),
    "LunarLander-v3": Mirror(_LANDER, (1, 4, 3, 2)),
    "LunarLanderContinuous-v3": Mirror(_LANDER, (1, -2)),
    "BipedalWalker-v3": Mirror(
        joined((1, 2, 3, 4), (6, 7, 8, 9, 10, 1, 2, 3, 4, 5), tuple(range(1, 11))), (3, 4, 1, 2)
    ),
    "InvertedPendulum-v5": Mirror((-1, -2, -3, -4), (-1,)),
    "InvertedDoublePendulum-v5": Mirror((-1, -2, -3, 4, 5, -6, -7, -8, -9), (-1,)),
    "Swimmer-v5": Mirror((-1, -2, -3, 4, -5, -6, -7, -8), (-1, -2)),
    "Walker2d-v5": _walker(),
    "Ant-v5": _ant(),
    "Humanoid-v5": _humanoid(),
    "HumanoidStandup-v5": _humanoid(),
}
"""Environment id to the mirror map of its body. Hopper and HalfCheetah have no left and right."""

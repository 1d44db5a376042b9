"""What the entries of a stored physics state mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["position", "velocity", "activation", "other"]

# The joints of MuJoCo (mjtJoint): suffix and unit of each entry of its position, and of its velocity.
_METRES, _TURN = ("m", "m", "m"), ("rad/s", "rad/s", "rad/s")
_POSITIONS: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    0: (("x", "y", "z", "qw", "qx", "qy", "qz"), (*_METRES, "", "", "", "")),
    1: (("qw", "qx", "qy", "qz"), ("", "", "", "")),
    2: (("",), ("m",)),
    3: (("",), ("rad",)),
}
_VELOCITIES: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    0: (("vx", "vy", "vz", "wx", "wy", "wz"), ("m/s", "m/s", "m/s", *_TURN)),
    1: (("wx", "wy", "wz"), _TURN),
    2: (("velocity",), ("m/s",)),
    3: (("velocity",), ("rad/s",)),
}
_HINGE = 3


@dataclass(frozen=True)
class StateVariable:
    """One entry of the physics state.

    Attributes:
        name: of its joint, with what tells the entries of a joint apart.
        index: where it stands in the state.
        kind: `position`, `velocity`, `activation` (of an actuator), or `other` where nobody knows.
        unit: empty where it has none.
        is_periodic: an angle that may go round, of a hinge without limits.
    """

    name: str
    index: int
    kind: Kind
    unit: str = ""
    is_periodic: bool = False


def state_variables(physics: Any) -> tuple[StateVariable, ...]:
    """The entries of `physics.get_state()` of a MuJoCo simulation: positions, velocities, activations.

    Args:
        physics: `dm_control.mujoco.engine.Physics`.
    """
    model = physics.model
    positions, velocities = [], []
    for joint in range(model.njnt):
        name = model.id2name(joint, "joint") or f"joint_{joint}"
        kind = int(model.jnt_type[joint])
        first = int(model.jnt_qposadr[joint])
        is_periodic = kind == _HINGE and not model.jnt_limited[joint]
        for offset, (suffix, unit) in enumerate(zip(*_POSITIONS[kind], strict=True)):
            full = f"{name}.{suffix}" if suffix else name
            positions.append(StateVariable(full, first + offset, "position", unit, is_periodic))
        first = int(model.nq) + int(model.jnt_dofadr[joint])
        for offset, (suffix, unit) in enumerate(zip(*_VELOCITIES[kind], strict=True)):
            velocities.append(StateVariable(f"{name}.{suffix}", first + offset, "velocity", unit))
    start = int(model.nq) + int(model.nv)
    activations = [
        StateVariable(f"activation_{i}", start + i, "activation")
        for i in range(physics.get_state().size - start)
    ]
    return (*positions, *velocities, *activations)


def unnamed_variables(count: int, name: str) -> tuple[StateVariable, ...]:
    """Variables of which nothing is known but their number."""
    return tuple(StateVariable(f"{name}_{i}", i, "other") for i in range(count))

"""The questions of the video world: for each task a scene that shows the answer, the options and the reasoning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from steelyard.types import Array, SteelyardError
from steelyard.worlds.video_questions_scene import COLOURS, SHAPES, Look, Scene, Thing, draw_look, project

GRID = 56
"""Pixels in which visibility is judged, whatever the size that is rendered."""


ATTEMPTS = 2000
"""Scenes that are refused before the task is given up; one in two or three is taken."""


class Posed(NamedTuple):
    """A question about a scene. `right` is the right option's text, or the number."""

    scene: Scene
    question: str
    options: tuple[str, ...]
    right: str
    reasoning: str


def pose(task: str, frames: int, generator: np.random.Generator) -> Posed:
    """Draw scenes until the task's answer can be seen in one.

    Args:
        task: a name of `TASKS`.
        frames: T.
        generator: of everything that is random; what decides the answer is drawn once, before the scenes, so that
            answers are balanced however often a scene is refused.
    """
    choice = int(generator.integers(2**16))
    for _ in range(ATTEMPTS):
        posed = TASKS[task](frames, generator, choice)
        if posed is not None:
            return posed
    raise SteelyardError(
        f"no scene for {task!r} in {frames} frames was found in {ATTEMPTS} attempts; ask for more frames"
    )


def _turning(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    direction = ("left", "right", "up", "down")[choice % 4]
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}[direction]
    sideways = direction in ("left", "right")
    sweep = generator.uniform(16, 30) if sideways else generator.uniform(10, 18)
    turn = np.deg2rad(sweep) * _ramp(frames, generator) * (1 if direction in ("right", "up") else -1)
    path = np.zeros((frames, 4))
    path[:, 1] = np.linspace(0, generator.uniform(0, 0.8), frames)
    path[:, 2 if sideways else 3] = turn - turn.mean()
    things = _things(generator, generator.uniform(-17, 17, generator.integers(2, 4)), (4.5, 8.0))
    scene = Scene(things, path, draw_look(generator))
    if not _apart(scene, frames // 2, 8):
        return None
    seen = project(scene, GRID)
    main = int(np.argmin(np.abs(seen[frames // 2, :, 0] - GRID / 2)))
    reasoning = f"{things[main].name} moves {opposite} so {direction}"
    return Posed(scene, "Which way does the camera turn?", ("left", "right", "up", "down"), direction, reasoning)


def _approaching(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    bearings = np.array([-17.0, 0.0, 17.0]) + generator.uniform(-4, 4, 3)
    things = _things(generator, bearings, (6.0, 8.5))
    target = choice % 3
    scene = Scene(things, _approach(things[target], frames, generator), draw_look(generator))
    if not _apart(scene, 0, 8) or not _inside(scene, slice(0, frames), target, margin=4):
        return None
    seen = project(scene, GRID)
    other = min((k for k in range(3) if k != target), key=lambda k: -abs(seen[frames // 2, k, 0] - seen[0, k, 0]))
    way = "right" if seen[frames // 2, other, 0] > seen[0, other, 0] else "left"
    name = things[target].name
    reasoning = f"{name} grows and {things[other].name} moves {way} so {name}"
    options = _options(generator, things, things[target])
    return Posed(scene, "Which object does the camera approach?", options, things[target].name, reasoning)


def _toward(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    things = _things(generator, np.array([-14.0, 14.0]) + generator.uniform(-8, 8, 2), (5.0, 8.0))
    path = _approach(things[0], frames, generator)
    toward = bool(choice % 2)
    scene = Scene(things, path if toward else path[::-1].copy(), draw_look(generator))
    if not _apart(scene, 0 if toward else -1, 8) or not _inside(scene, slice(0, frames), 0, margin=4):
        return None
    name, right = things[0].name, "toward" if toward else "away"
    reasoning = f"{name} {'grows' if toward else 'shrinks'} so {right}"
    return Posed(scene, f"Does the camera move toward or away from the {name}?", ("toward", "away"), right, reasoning)


def _which_object(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    things = _things(generator, np.array([-15.0, 0.0, 15.0]) + generator.uniform(-6, 6, 3), (4.5, 9.0))
    scene = Scene(things, _wander(frames, generator), draw_look(generator))
    if not _apart(scene, frames - 1, 9):
        return None
    order = np.argsort(project(scene, GRID)[-1, :, 0])
    side = ("left", "middle", "right")[choice % 3]
    right = things[order[("left", "middle", "right").index(side)]]
    reasoning = "from left " + " then ".join(things[k].name for k in order) + f" so {right.name}"
    options = _options(generator, things, right)
    place = "in the middle" if side == "middle" else f"on the {side}"
    return Posed(scene, f"Which object is {place} at the end?", options, right.name, reasoning)


def _how_many(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    count = 1 + choice % 4
    spread = np.linspace(-17, 17, count) if count > 1 else np.zeros(1)
    things = _things(generator, spread + generator.uniform(-4, 4, count), (4.5, 9.0))
    scene = Scene(things, _wander(frames, generator), draw_look(generator))
    if not (_apart(scene, 0, 7) and _apart(scene, frames - 1, 7)):
        return None
    order = np.argsort(project(scene, GRID)[-1, :, 0])
    reasoning = "from left " + " then ".join(things[k].name for k in order) + f" so {count}"
    return Posed(scene, "How many objects are seen?", (), str(count), reasoning)


def _passed_first(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    side = 1 if choice % 2 else -1
    sides = np.array([side, side if generator.random() < 0.3 else -side, 0])
    x = sides * generator.uniform(0.9, 1.5, 3) + np.array([0, 0, generator.uniform(-1.2, 1.2)])
    z = np.array([generator.uniform(3.2, 4.5), generator.uniform(5.6, 7.2), generator.uniform(11, 14)])
    names = _names(generator, 3)
    things = tuple(_thing(generator, *names[k], x[k], z[k]) for k in generator.permutation(3))
    path = np.zeros((frames, 4))
    path[:, 1] = _ramp(frames, generator) * generator.uniform(4.8, 5.8)
    path[:, 2] = np.deg2rad(generator.uniform(-4, 4))
    scene = Scene(things, path, draw_look(generator))
    if not _apart(scene, 0, 6):
        return None
    seen = project(scene, GRID)
    half = seen[..., 2] * np.array([thing.width / thing.size for thing in things]) / 2
    gone = (seen[..., 3] < 0.6) | (np.abs(seen[..., 0] - GRID / 2) > GRID / 2 + 0.3 * half)
    leaves = np.where(gone.any(0), gone.argmax(0), frames + 9)
    order = np.argsort(leaves)
    least = frames // 4
    if not least <= leaves[order[0]] <= leaves[order[1]] - least < frames - least:
        return None
    way = ["left" if thing.x < 0 else "right" for thing in things]
    first, second = things[order[0]], things[order[1]]
    reasoning = f"{first.name} leaves {way[order[0]]} then {second.name} leaves {way[order[1]]} so {first.name}"
    return Posed(scene, "Which object was passed first?", _options(generator, things, first), first.name, reasoning)


def _approach_or_toward(frames: int, generator: np.random.Generator, choice: int) -> Posed | None:
    return (_approaching if choice % 5 < 3 else _toward)(frames, generator, choice // 5)


TASKS: dict[str, Callable[[int, np.random.Generator, int], Posed | None]] = {
    "turning": _turning,
    "approaching": _approach_or_toward,
    "which object": _which_object,
    "how many": _how_many,
    "passed first": _passed_first,
}
"""Task to the function of (frames, generator, choice) that draws and asks; None where the answer is not seen."""


def _ramp(frames: int, generator: np.random.Generator) -> Array:
    """From 0 to 1 in uneven steps, float64 [T]."""
    steps = generator.uniform(0.7, 1.3, frames - 1) if frames > 1 else np.zeros(0)
    return np.concatenate([[0.0], np.cumsum(steps) / max(steps.sum(), 1e-9)])


def _wander(frames: int, generator: np.random.Generator) -> Array:
    """A slow walk ahead with a slight turn, float64 [T, 4]."""
    path = np.zeros((frames, 4))
    path[:, 0] = _ramp(frames, generator) * generator.uniform(-0.5, 0.5)
    path[:, 1] = _ramp(frames, generator) * generator.uniform(-0.8, 1.2)
    path[:, 2] = np.deg2rad(generator.uniform(-9, 9)) * (_ramp(frames, generator) - 0.5)
    return path


def _approach(target: Thing, frames: int, generator: np.random.Generator) -> Array:
    """A walk up to a thing, looking between straight ahead and the thing, float64 [T, 4]."""
    way = _ramp(frames, generator) * generator.uniform(0.5, 0.68)
    bearing = np.arctan2(target.x, target.z)
    look = np.full(frames, bearing * generator.uniform(0.15, 0.6))
    return np.stack([way * target.x, way * target.z, look, np.zeros(frames)], axis=1)


def _names(generator: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """(colour, shape) pairs, no colour twice."""
    colours = generator.permutation(list(COLOURS))[:count]
    return [(str(colour), SHAPES[generator.integers(len(SHAPES))]) for colour in colours]


def _things(generator: np.random.Generator, bearings: Array, depths: tuple[float, float]) -> tuple[Thing, ...]:
    """One thing at each bearing [K] in degrees to the right."""
    order = generator.permutation(len(bearings))
    names = _names(generator, len(bearings))
    things = []
    for k in order.tolist():
        depth, angle = generator.uniform(*depths), np.deg2rad(bearings[k])
        things.append(_thing(generator, *names[k], depth * np.sin(angle), depth * np.cos(angle)))
    return tuple(things)


def _thing(generator: np.random.Generator, colour: str, shape: str, x: float, z: float) -> Thing:
    size = generator.uniform(1.7, 2.4) if shape == "tower" else generator.uniform(1.0, 1.6)
    tint = tuple(generator.uniform(-14, 14, 3).tolist())
    return Thing(colour, shape, float(x), float(z), float(size), tint)


def _options(generator: np.random.Generator, things: Sequence[Thing], right: Thing) -> tuple[str, ...]:
    """Four names: the right one, the other things of the scene and, to fill up, one that is not in it."""
    shown = [right, *[thing for thing in things if thing is not right][:3]]
    spare = [colour for colour in generator.permutation(list(COLOURS)) if colour not in {t.colour for t in shown}]
    others = [f"{colour} {SHAPES[generator.integers(len(SHAPES))]}" for colour in spare[: 4 - len(shown)]]
    return (*(thing.name for thing in shown), *others)


def _apart(scene: Scene, frame: int, pixels: float) -> bool:
    """Whether all things are inside the given frame, and their centres this far apart."""
    columns = np.sort(project(scene, GRID)[frame, :, 0])
    return bool(columns[0] > 4 and columns[-1] < GRID - 4 and (np.diff(columns) > pixels).all())


def _inside(scene: Scene, span: slice, thing: int, *, margin: float) -> bool:
    """Whether the thing's centre stays inside the picture."""
    columns = project(scene, GRID)[span, thing, 0]
    return bool((columns > margin).all() and (columns < GRID - margin).all())


__all__ = ["GRID", "TASKS", "Look", "Posed", "pose"]

"""What a method is: a card, a recipe made of parts, and an experiment that could fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from steelyard.learn.config import TrainConfig
from steelyard.learn.recipe import Recipe
from steelyard.perturb.video import OutdoorCorruptions
from steelyard.rewards.consistency import Similarity
from steelyard.types import PerturbationSampler, Policy, Sample, SteelyardError

Split = Literal["train", "validation", "test"]
Form = Literal["difference", "relative", "share"]


@dataclass(frozen=True)
class Card:
    """What a person should know of a paper before using its method.

    Attributes:
        number: of its sheet.
        slug: what the command line calls it.
        title, source: of the paper.
        claim: what the evidence tests, in one sentence.
        problem: what goes wrong without it.
        how: how it works, in a few sentences.
        settings: name to value with where it comes from (paper, code, recommended).
        limits: when not to use it.
        usage: lines of a terminal or of Python for `Use it`, where the common ones do not fit.
    """

    number: int
    slug: str
    title: str
    source: str
    claim: str
    problem: str
    how: str
    settings: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    usage: str = ""


class Setting(Protocol):
    """Where a recipe is to work: a world, or a person's own model and data."""

    @property
    def attempts(self) -> int:
        """The group size G."""
        ...


class VideoSetting(Setting, Protocol):
    """A setting whose samples are clips."""

    @property
    def corruptions(self) -> PerturbationSampler:
        """What goes wrong outside."""
        ...

    @property
    def similarity(self) -> Similarity:
        """How alike two reasonings are."""
        ...

    @property
    def test_corruptions(self) -> OutdoorCorruptions:
        """The corruptions under which policies are measured."""
        ...


class World(Setting, Protocol):
    """A small task that ships with the library."""

    name: str

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """Rows of a split; the same seed gives the same rows."""
        ...

    def policy(self, *, seed: int = 0) -> Policy:
        """The policy from which every arm starts."""
        ...


class VideoWorld(VideoSetting, World, Protocol):
    """A small task on clips."""


RecipeFor = Callable[[Any], Recipe]
"""What makes a recipe for a setting; a method says by its parameter's type what its setting must have."""

Measures = Mapping[str, float]


class Measure(Protocol):
    """How the policies of an experiment are measured."""

    def __call__(self, world: Any, policy: Policy, *, folder: Path, count: int, greedy: bool) -> Measures:
        """Named figures of a policy on `count` held-out rows; what explains them may be written into `folder`."""
        ...


@dataclass(frozen=True)
class Claim:
    """One sentence that an experiment can refute.

    effect = metric(arm) − metric(baseline), or their ratio minus one with `relative`, or metric(arm) / metric(baseline)
    with `share`; it must reach `at_least` or stay under `at_most`.

    Attributes:
        text: the sentence.
        metric: which measure.
        arm, baseline: which arms.
        at_least, at_most: the threshold; give one.
        form: difference, relative (a/b − 1 of the seeds' sums) or share (a/b of the seeds' sums).
    """

    text: str
    metric: str
    arm: str
    baseline: str
    at_least: float | None = None
    at_most: float | None = None
    form: Form = "difference"

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise SteelyardError(f"claim {self.text!r} needs one threshold: at_least or at_most")
        if self.form not in get_args(Form):
            raise SteelyardError(f"claim {self.text!r} has the form {self.form!r}; it is one of {get_args(Form)}")


@dataclass(frozen=True)
class Experiment:
    """Arms trained on one world with paired seeds, and what is claimed of them.

    Attributes:
        name: of the experiment; its folder.
        world: makes the world.
        seeded: whether `world` takes the trial's seed as `seed`, because the world itself is drawn.
        arms: name to recipe; every arm starts from the same policy and sees the same data order.
        train: settings of every arm; `seed` is replaced.
        measure: figures of a policy; what the claims speak of. A run's cost is added to them (`arms.cost`).
        claims: what is tested.
        data: rows of the training split; test_count: rows of the test split.
        greedy: whether policies are measured by their most likely completion, or by one draw at temperature 1.
        quick: what `--quick` changes of `train`, to see that it runs; demo: what `steelyard run` changes.
        demo_arms: arms of `steelyard run`; all if empty.
        labels: arm to what people call it.
        examples: writes what a page shows of single rows into a study's folder, if anything.
    """

    name: str
    world: Callable[..., World]
    arms: Mapping[str, RecipeFor]
    train: TrainConfig
    measure: Measure
    claims: Sequence[Claim]
    data: int
    test_count: int
    greedy: bool = True
    seeded: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict)
    demo: Mapping[str, Any] = field(default_factory=dict)
    demo_arms: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    examples: Callable[[Any, Path, str, int], None] | None = None

    def world_of(self, seed: int) -> World:
        """The world of a trial."""
        return self.world(seed=seed) if self.seeded else self.world()


@dataclass(frozen=True)
class Trial:
    """One arm's turn with one seed: where it may write, and whether only its machinery is to be seen."""

    seed: int
    folder: Path
    quick: bool = False


@dataclass(frozen=True)
class Measurement:
    """Arms that are not a recipe in the trainer: figures of rewards, of reward models, of pairs, of theory.

    Attributes:
        name: of the experiment; its folder.
        arms: name to what measures it, given a trial; what an arm trains, it trains with the library's trainers.
        claims: what is tested.
        settings: what the arms were given, for the record.
    """

    name: str
    arms: Mapping[str, Callable[[Trial], Measures]]
    claims: Sequence[Claim]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One paper: its card, its recipe, its evidence.

    Attributes:
        card: what to know before using it.
        recipe: None for a method that is no recipe of the trainer (an audit, a reward model).
        evidence: its experiments.
        demos: experiments on larger worlds that `steelyard run` and `train` know, and `evidence` does not repeat.
        instruction: what is put behind every prompt of a person's own data.
        probe: what a run is measured by on its way and at its end, made from labelled rows, where the recipe's own
            reward would say nothing.
    """

    card: Card
    recipe: RecipeFor | None
    evidence: Sequence[Experiment | Measurement] = ()
    demos: Sequence[Experiment] = ()
    instruction: str = ""
    probe: Callable[[Sequence[Sample]], Callable[[Policy], dict[str, float]]] | None = None

    @property
    def trained(self) -> list[Experiment]:
        """The experiments in which recipes are trained, those for `steelyard run` last."""
        return [*(e for e in self.evidence if isinstance(e, Experiment)), *self.demos]

"""PVRBench: how much accuracy a video policy loses when the same clip is seen through twelve corruptions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from steelyard.audits.cell_store import digest_of, read_rows, write_rows, write_whole
from steelyard.audits.pvr_result import CLEAN, PVRResult, aggregate, summarise
from steelyard.audits.questions import load_questions
from steelyard.audits.reasoning_quality import QualityRule, rate, rule_quality
from steelyard.perturb.video import KINDS, VideoPerturbation
from steelyard.rewards.answers import ACCURACY, answer_text, problem_accuracy, think_text
from steelyard.types import Judge, Policy, Sample, SteelyardError, streams

__all__ = ["PVRBench", "PVRResult", "aggregate", "load_questions", "pvr_command", "rule_quality", "summarise"]

Row: TypeAlias = dict[str, Any]
LONGEST = 768
"""Tokens of a completion, as in the paper."""


class Cell(NamedTuple):
    """One corruption at one severity; `clean` at 0 is no corruption."""

    kind: str
    severity: int

    @property
    def family(self) -> str:
        """Which family the kind belongs to."""
        return "none" if self.kind == CLEAN else KINDS[self.kind].family

    @property
    def number(self) -> tuple[int, int]:
        """Its place among all cells there are, whichever of them are run."""
        return (CLEAN, *KINDS).index(self.kind), self.severity

    @property
    def file(self) -> str:
        """Name of the file of its rows."""
        return f"{self.kind}-{self.severity}.jsonl"


@dataclass(frozen=True, eq=False)
class PVRBench:
    """Questions about clips, each asked on the clean clip and under every corruption.

    All questions about one clip (column `video`, else the sample's id) see it under the same corruption.

    Args:
        samples: rows with a video and the columns `answer` and `problem_type`.
        kinds: which corruptions, of `steelyard.perturb.video.KINDS`; all twelve unless given.
        severities: which severities, 1 to 5.
        seed: of the corruptions, and of the draws of an evaluation that is not greedy.

    Raises:
        SteelyardError: for an unknown kind, no samples, two samples of one id, or a sample without video or answer.

    Source: sheet 01, section 4.
    """

    samples: Sequence[Sample]
    kinds: tuple[str, ...] = ()
    severities: tuple[int, ...] = (3,)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds) or tuple(KINDS))
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or len({*self.kinds}) < len(self.kinds):
            wrong = f"unknown kind {unknown[0]!r}" if unknown else f"a kind twice in {', '.join(self.kinds)}"
            raise SteelyardError(f"PVRBench: {wrong}; the kinds are {', '.join(KINDS)}")
        if not self.severities or any(severity not in range(1, 6) for severity in self.severities):
            raise SteelyardError(f"PVRBench: severities are {self.severities}; give one or more of 1 to 5")
        _check_samples(self.samples)

    @staticmethod
    def from_folder(
        videos: str | Path,
        questions: str | Path,
        *,
        frames: int = 16,
        size: int = 224,
        kinds: Sequence[str] = (),
        severities: Sequence[int] = (3,),
        seed: int = 0,
    ) -> PVRBench:
        """A benchmark of your own: a folder of video files and a JSONL file of questions.

        A line of the file: `{"video": "street.mp4", "question": …, "options": ["A. …", …], "answer": "A",
        "problem_type": "multiple choice"}`; `options`, `id` and `task` may be left out.

        Args:
            frames: frames of each clip that the policy sees.
            size: side of the square that they are resized to, in pixels.

        Raises:
            SteelyardError: naming file and line of the question that cannot be used.
        """
        samples = load_questions(Path(videos), Path(questions), frames=frames, size=size)
        return PVRBench(samples, kinds=tuple(kinds), severities=tuple(severities), seed=seed)

    @property
    def cells(self) -> list[Cell]:
        """Clean first, then every kind at every severity."""
        return [Cell(CLEAN, 0), *(Cell(kind, severity) for kind in self.kinds for severity in self.severities)]

    def perturbed(self, sample: Sample, cell: Cell) -> Sample:
        """The sample as it is seen in this cell: the same pixels at every call."""
        if cell.kind == CLEAN:
            return sample
        clip = str(sample.columns.get("video", sample.id))
        digest = hashlib.blake2b(f"{self.seed}/{clip}/{cell.kind}/{cell.severity}".encode(), digest_size=4).digest()
        return VideoPerturbation(cell.kind, cell.severity, int.from_bytes(digest, "big"))(sample)

    def evaluate(
        self,
        policy: Policy,
        *,
        judge: Judge | QualityRule | None = None,
        agreement: Callable[[str, str], float] | None = None,
        batch: int = 64,
        greedy: bool = True,
        folder: str | Path | None = None,
        model: str = "",
        progress: bool = False,
    ) -> PVRResult:
        """Ask the policy every question in every cell.

        Args:
            policy: anything that samples.
            judge: rates the reasoning of disturbed completions: a Judge is asked with the template of
                `rewards.judges.templates`, a function is called as `QualityRule`; None: no reasoning scores.
            agreement: (clean reasoning, disturbed reasoning) to [0, 1], logged for every disturbed completion.
            batch: samples per call of the policy; changes no result.
            greedy: the most likely completion; otherwise one draw.
            folder: keeps the rows of every finished cell; a cell that is already there with the same samples, policy
                and settings is not run again.
            model: the name of the policy in the result.
            progress: draw a progress bar.

        Returns:
            The result. A completion whose accuracy cannot be computed counts in no mean and is reported as `unscored`.
        """
        setting = {
            "seed": self.seed,
            "greedy": greedy,
            "model": model,
            "judge": _name(judge),
            "agreement": _name(agreement),
        }
        digest = digest_of(self.samples, policy, setting) if folder is not None else ""
        task = _Task(self, policy, judge, agreement, batch, greedy)
        rows: list[Row] = []
        clean: list[Row] = []
        with _progress(len(self.cells) * len(self.samples), progress) as advance:
            for cell in self.cells:
                path = None if folder is None else Path(folder) / "rows" / cell.file
                found = None if path is None else read_rows(path, digest)
                if found is None:
                    found = task.run(cell, clean, advance)
                    if path is not None:
                        write_rows(path, digest, found)
                else:
                    advance(len(found), cell.kind)
                clean = found if cell.kind == CLEAN else clean
                rows += found
        config = {
            **setting,
            "kinds": list(self.kinds),
            "severities": list(self.severities),
            "samples": len(self.samples),
        }
        return summarise(rows, config=config, seed=self.seed)


@dataclass(frozen=True, eq=False)
class _Task:
    """What stays the same from cell to cell of one evaluation."""

    bench: PVRBench
    policy: Policy
    judge: Judge | QualityRule | None
    agreement: Callable[[str, str], float] | None
    batch: int
    greedy: bool

    def run(self, cell: Cell, clean: Sequence[Row], advance: Callable[[int, str], None]) -> list[Row]:
        """The rows of one cell, in the order of the samples; `clean` holds the clean cell's rows, if run."""
        samples = self.bench.samples
        generators = streams(np.random.default_rng([self.bench.seed, *cell.number]), len(samples))
        rows: list[Row] = []
        for start in range(0, len(samples), self.batch):
            part = [self.bench.perturbed(samples[i], cell) for i in range(start, min(start + self.batch, len(samples)))]
            draws = generators[start : start + self.batch]
            rollouts = self.policy.sample(part, 1, generator=draws, greedy=self.greedy)
            if len(rollouts) != len(part):
                raise SteelyardError(
                    f"the policy gave {len(rollouts)} completions for {len(part)} samples; one each is needed"
                )
            rows += [_row(sample, cell, text) for sample, text in zip(part, rollouts.completions, strict=True)]
            advance(len(part), cell.kind)
        return rows if cell.kind == CLEAN else self._compared(rows, clean)

    def _compared(self, rows: Sequence[Row], clean: Sequence[Row]) -> list[Row]:
        qualities = rate(self.judge, self.bench.samples, clean, rows)
        for row, before, quality in zip(rows, clean, qualities, strict=True):
            ours, theirs = answer_text(row["completion"]), answer_text(before["completion"])
            row["answer_agrees"] = float(ours is not None and ours == theirs)
            if self.agreement is not None:
                row["reasoning_agreement"] = float(self.agreement(_reasoning(before), _reasoning(row)))
            if self.judge is not None:
                row["quality"] = quality
        return list(rows)


def _row(sample: Sample, cell: Cell, completion: str) -> Row:
    columns = sample.columns
    kind = str(columns.get("problem_type", ""))
    accuracy = problem_accuracy(completion, str(columns["answer"]), kind) if kind in ACCURACY else None
    row = {"sample": sample.id, "kind": cell.kind, "family": cell.family, "severity": cell.severity}
    row |= {name: str(columns[name]) for name in ("video", "task", "question") if name in columns}
    return {
        **row,
        "problem_type": kind,
        "answer": str(columns["answer"]),
        "completion": completion,
        "accuracy": accuracy,
    }


def _reasoning(row: Row) -> str:
    return think_text(row["completion"]) or ""


def _check_samples(samples: Sequence[Sample]) -> None:
    if not len(samples):
        raise SteelyardError("PVRBench has no samples; give at least one")
    seen: set[str] = set()
    for sample in samples:
        lacks = (
            "video"
            if sample.video is None
            else next((c for c in ("answer", "problem_type") if c not in sample.columns), None)
        )
        if lacks:
            raise SteelyardError(
                f"PVRBench: sample {sample.id!r} has no {lacks}; video, answer and problem_type are needed"
            )
        if sample.id in seen:
            raise SteelyardError(f"PVRBench: the id {sample.id!r} stands twice; ids must differ")
        seen.add(sample.id)


def _name(part: Any) -> str | None:
    if part is None:
        return None
    return str(getattr(part, "name", None) or getattr(part, "__name__", None) or type(part).__name__)


@contextmanager
def _progress(total: int, show: bool) -> Iterator[Callable[[int, str], None]]:
    if not show:
        yield lambda count, kind: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("PVRBench {task.description:<17}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bar:
        task = bar.add_task(CLEAN, total=total)
        yield lambda count, kind: bar.update(task, advance=count, description=kind)


def pvr_command(
    videos: str | Path,
    questions: str | Path,
    model: str,
    out: str | Path,
    *,
    kinds: Sequence[str] = (),
    severities: Sequence[int] = (3,),
    frames: int = 16,
    size: int = 224,
    seed: int = 0,
    batch: int = 8,
    max_tokens: int | None = None,
    judge_model: str | None = None,
    judge_url: str | None = None,
    judge_key_env: str | None = "OPENAI_API_KEY",
    progress: bool = True,
) -> PVRResult:
    """`steelyard bench pvr`: evaluate a model on a folder of videos and keep what came of it.

    Without `max_tokens` a completion may have 768 tokens, but no more than a quarter of the model's context.

    Writes into `out`: `rows.jsonl` (every completion), `pvr.json` (the figures), and `rows/`, from which a call that
    was cut off goes on. Prints the table.

    Raises:
        SteelyardError: for questions, videos, kinds or a model that cannot be used.
    """
    from rich.console import Console

    from steelyard.policies import load_policy
    from steelyard.policies.sampling import Sampling
    from steelyard.rewards.judges.endpoint import EndpointJudge

    bench = PVRBench.from_folder(
        videos, questions, frames=frames, size=size, kinds=kinds, severities=severities, seed=seed
    )
    judge = None if judge_model is None else EndpointJudge(judge_model, base_url=judge_url, api_key_env=judge_key_env)
    if judge is not None:
        _ = judge.client  # a missing key ends it before the model has answered
    policy = load_policy(model, sampling=Sampling(max_tokens=max_tokens or LONGEST))
    if max_tokens is None:
        policy.sampling = Sampling(max_tokens=min(LONGEST, _context(policy) // 4))
    result = bench.evaluate(policy, judge=judge, batch=batch, folder=out, model=model, progress=progress)
    save_result(result, out)
    Console().print(result.table(title=f"PVRBench: {model}"))
    return result


def _context(policy: Any) -> int:
    """Tokens that the model's context holds, prompt and completion together."""
    config = policy.module.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None) or 4 * LONGEST


def save_result(result: PVRResult, folder: str | Path) -> None:
    """Write `rows.jsonl` and `pvr.json` into a folder."""
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in result.rows)
    write_whole(Path(folder) / "rows.jsonl", rows)
    write_whole(Path(folder) / "pvr.json", json.dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n")

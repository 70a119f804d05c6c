"""Judges that look at images: what they are asked about an edit or a generated image, and the rewards made of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steelyard.rewards.core import BatchReward
from steelyard.rewards.judges.asking import read_verdicts
from steelyard.rewards.judges.marks import parse_boxed_mark, parse_mark, parse_three_marks
from steelyard.rewards.judges.parsing import Parse
from steelyard.rewards.judges.scoring import _name, named_reward, scores_of, texts_of
from steelyard.rewards.judges.templates import _DATA_NOTE, with_pictures
from steelyard.types import Array, Judge, Prompt, Rollouts, Scores, SteelyardError

_JSON_MARK = 'Reply with one JSON object and nothing else: {"reasoning": "one or two sentences", "score": n}'

_EXECUTION = f"""You mark an edit of an image. The first image is the original, the second the result.
{_DATA_NOTE}
`instruction` says what was to be changed; `differences`, if given, lists what another model saw change.
Mark from 1 to 5 only whether the requested change is there and right: 5 all of it; 4 all but a slight detail; 3 the \
main intent, with a significant part missing or wrong; 2 hardly; 1 not at all, or the opposite. Other changes, quality \
and realism do not count.
{_JSON_MARK}"""

_CONSISTENCY = f"""You mark an edit of an image. The first image is the original, the second the result.
{_DATA_NOTE}
`instruction` says what was to be changed; `differences`, if given, lists what another model saw change.
Mark from 1 to 5 only what changed without being asked for: 5 nothing; 4 one significant change or one or two minor \
ones; 3 two or three significant or three or four minor ones; 2 more than that; 1 it is another image. A change is \
significant if it alters what the image shows, minor if it is hardly noticed. What an object hid or newly hides, small \
differences of sharpness, noise, light or colour, all attributes of an object that was to be replaced, and physical \
consequences of the edit are no changes. Whether the instruction was carried out does not count.
{_JSON_MARK}"""

_DIFFERENCES = f"""You compare two images: the original, then an edit of it.
{_DATA_NOTE}
List every difference that you see, the obvious ones first, then fine ones (places, counts, textures, letters, faces). \
Judge nothing, and do not guess what was intended."""

_PLAN = f"""You plan how to check whether an image shows what a prompt asks for.
{_DATA_NOTE}
Write a checklist of short items that can be seen: subjects with their attributes, counts and relations; style and \
composition; what must not be there. One item a line, nothing that the prompt does not ask for."""

_ALIGNMENT = rf"""You mark whether an image shows what a prompt asks for.
{_DATA_NOTE}
`plan`, if given, lists what to check; else list the prompt's requirements first. Look at the image for each of them, \
then mark from 1 to 5: 5 all are met; 4 all but a slight one; 3 the main subject, with a significant one missing or \
wrong; 2 few; 1 none. Beauty does not count. End with the mark in this form and nothing behind it: \boxed{{4}}"""

_QUALITY = f"""You mark the quality of a generated image, whatever it was meant to show.
{_DATA_NOTE}
Give three marks from 1 to 5: aesthetics (composition, light, colour); technical quality (sharpness, noise, \
artefacts); structure and texture (anatomy, geometry, surfaces, letters).
Reply with one JSON object and nothing else: {{"reasoning": "one or two sentences", "score": [n, n, n]}}"""


def image_part(image: Any) -> dict[str, Any]:
    """A part of a chat message that holds an image as PNG, the way OpenAI's clients and vLLM read it.

    Args:
        image: uint8 [H, W, 3].

    Raises:
        SteelyardError: for anything else.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise SteelyardError(f"a judge was given {array.dtype} {array.shape} to look at; an image is uint8 [H, W, 3]")
    from PIL import Image

    whole = io.BytesIO()
    Image.fromarray(array).save(whole, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(whole.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def execution_prompt(instruction: str, source: Array, result: Array, *, differences: str | None = None) -> Prompt:
    """Chat messages that ask whether the requested change is there: one mark, read with `parse_mark` (sheet 31)."""
    return _about_edit(_EXECUTION, instruction, source, result, differences)


def consistency_prompt(instruction: str, source: Array, result: Array, *, differences: str | None = None) -> Prompt:
    """Chat messages that ask how much changed beside it: one mark, read with `parse_mark` (sheet 31)."""
    return _about_edit(_CONSISTENCY, instruction, source, result, differences)


def _about_edit(system: str, instruction: str, source: Array, result: Array, differences: str | None) -> Prompt:
    fields = {"instruction": instruction} | ({} if differences is None else {"differences": differences})
    return with_pictures(system, fields, [image_part(source), image_part(result)])


def differences_prompt(source: Array, result: Array) -> Prompt:
    """Chat messages that ask for a list of differences, before anybody is asked for a mark (sheet 31)."""
    return with_pictures(_DIFFERENCES, {}, [image_part(source), image_part(result)])


def plan_prompt(prompt: str) -> Prompt:
    """Chat messages that ask for a checklist of what an image of this prompt must show (sheet 31)."""
    return with_pictures(_PLAN, {"prompt": prompt}, [])


def alignment_prompt(prompt: str, image: Array, *, plan: str | None = None) -> Prompt:
    """Chat messages that ask whether an image follows its prompt: one mark, read with `parse_boxed_mark` (sheet 31)."""
    fields = {"prompt": prompt} | ({} if plan is None else {"plan": plan})
    return with_pictures(_ALIGNMENT, fields, [image_part(image)])


def image_quality_prompt(image: Array) -> Prompt:
    """Chat messages that ask for three marks of quality, read with `parse_three_marks` (sheet 31)."""
    return with_pictures(_QUALITY, {}, [image_part(image)])


def edit_executed(
    judge: Judge, *, differences: Judge | None = None, source: str = "source", instruction: str = "prompt"
) -> BatchReward:
    """The judge's mark, 1 to 5, of whether each edited image shows the change that was asked for.

    The completion is the edited image. NaN with a status where the judge did not reply or could not be read.

    Args:
        judge: who marks; it must read images, as an endpoint does.
        differences: who lists the differences of the two images first; the list is shown to the judge.
        source, instruction: columns with the original image, and with what was asked for.

    Source: sheet 31 (FIRM, arXiv 2603.12247), "difference first".
    """
    return _edit_marks("executed", execution_prompt, judge, differences, source, instruction)


def edit_consistent(
    judge: Judge, *, differences: Judge | None = None, source: str = "source", instruction: str = "prompt"
) -> BatchReward:
    """The judge's mark, 1 to 5, of how little changed in each edited image beside what was asked for.

    See `edit_executed`.
    """
    return _edit_marks("consistent", consistency_prompt, judge, differences, source, instruction)


def _edit_marks(
    name: str, ask: Callable[..., Prompt], judge: Judge, first: Judge | None, source: str, instruction: str
) -> BatchReward:
    def score(rollouts: Rollouts) -> Scores:
        images = list(zip(rollouts.column(source), rollouts.completions, strict=True))
        reports: Sequence[str | None] = [None] * len(images)
        if first is not None:
            reports = first.ask([differences_prompt(*pair) for pair in images])
        rows = zip(texts_of(rollouts, instruction), images, reports, strict=True)
        prompts = [ask(text, *pair, differences=report) for text, pair, report in rows]
        return _read(judge, prompts, parse_mark)

    return named_reward(score, name, f"{name}({_name(judge)!r})")


def image_aligned(judge: Judge, *, planner: Judge | None = None, prompt: str = "prompt") -> BatchReward:
    """The judge's mark, 1 to 5, of how well each generated image follows its prompt.

    Args:
        judge: who marks; it must read images.
        planner: who turns every prompt into a checklist first (once a prompt); it is shown to the judge.
        prompt: column with what was asked for.

    Source: sheet 31, "plan then score".
    """

    def score(rollouts: Rollouts) -> Scores:
        asked = texts_of(rollouts, prompt)
        plans: dict[str, str | None] = dict.fromkeys(asked)
        if planner is not None:
            plans = dict(zip(plans, planner.ask([plan_prompt(text) for text in plans]), strict=True))
        rows = zip(asked, rollouts.completions, strict=True)
        return _read(judge, [alignment_prompt(text, image, plan=plans[text]) for text, image in rows], parse_boxed_mark)

    return named_reward(score, "aligned", f"aligned({_name(judge)!r})")


def image_quality(judge: Judge) -> BatchReward:
    """The least of the judge's three marks, 1 to 5, of each image's quality (sheet 31)."""

    def score(rollouts: Rollouts) -> Scores:
        return _read(judge, [image_quality_prompt(image) for image in rollouts.completions], parse_three_marks)

    return named_reward(score, "quality", f"quality({_name(judge)!r})")


def _read(judge: Judge, prompts: Sequence[Prompt], parse: Parse) -> Scores:
    return scores_of(read_verdicts(judge, prompts, parse))

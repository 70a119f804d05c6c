"""What a command is given, loaded: a reward by its file or module, rows by their file, rollouts by their columns."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from steelyard.json_lines import json_lines
from steelyard.rewards.core import Expression, reward
from steelyard.types import Prompt, Rollouts, Sample, SteelyardError

Row = Mapping[str, Any]

COMPLETIONS = ("completion", "response", "output", "solution", "generation")
"""Fields that are taken for the completion, in this order, where none is mapped."""

PROMPTS = ("prompt", "messages", "question", "instruction", "problem", "input")
"""Fields that are taken for the prompt, in this order, where none is mapped; without any it is empty."""


def load_reward(spec: str) -> Expression:
    """The reward at `my_rewards.py:name` or `package.module:name`.

    A plain function becomes a reward as `@reward` makes it. Without `:name` the file or module must hold exactly one
    reward of its own. The code is run, as an import runs it: give only code that you trust.

    Raises:
        SteelyardError: for a file or module that is not there or fails when it is run, a name that it lacks, what is
            neither a reward nor a function, or a function of ours that makes rewards.
    """
    place, colon, name = spec.rpartition(":") if ":" in spec else (spec, "", "")
    if not place or (colon and not name.isidentifier()):
        raise SteelyardError(f"{spec!r} names no reward; give a file or module and a name: my_rewards.py:reward")
    module = _module(place)
    if not name:
        return _only(module, place)
    if not hasattr(module, name):
        here = _rewards(module) or [n for n in dir(module) if isinstance(getattr(module, n), Expression)]
        raise SteelyardError(f"{place} has no {name!r}; it has {_listed(here) or 'no rewards'}")
    found = getattr(module, name)
    if isinstance(found, Expression):
        return found
    if not callable(found) or isinstance(found, type):
        raise SteelyardError(f"{spec} is {type(found).__name__}, which is no reward and no function")
    if getattr(found, "__module__", "").startswith("steelyard."):
        made = f"write `mine = {name}(…)` into my_rewards.py and give my_rewards.py:mine"
        raise SteelyardError(f"{spec} is no reward, it makes one of what it is given; {made}")
    try:
        return reward(found)
    except (AttributeError, ValueError) as error:
        raise SteelyardError(f"{spec} cannot be made a reward: {error}") from None


def _module(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix == ".py" or path.is_file():
        return _run_file(path.resolve())
    sys.path.insert(0, "")  # modules of the current folder, as `python -m` finds them
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and place.startswith(error.name):
            raise SteelyardError(f"there is no file or module {place!r}; give my_rewards.py:NAME") from None
        raise SteelyardError(f"{place} needs the module {error.name!r}, which is not installed") from error
    except Exception as error:
        raise SteelyardError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")


@functools.cache
def _run_file(path: Path) -> ModuleType:
    """A file's module, under its own name so that processes find it again; its folder may hold what it imports."""
    if not path.is_file():
        raise SteelyardError(f"there is no file {path}; give the file that holds the reward")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"steelyard_user_{path.stem}"
    made = importlib.util.spec_from_file_location(name, path)
    if made is None or made.loader is None:
        raise SteelyardError(f"{path} is no Python file; give a file that ends in .py")
    module = importlib.util.module_from_spec(made)
    sys.modules[name] = module  # dataclasses and processes look their module up there
    try:
        made.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SteelyardError(f"{path} fails when it is run: {type(error).__name__}: {error}") from error
    return module


def _rewards(module: ModuleType) -> list[str]:
    """Names of the rewards and public functions that stand in a module and are not imported there."""
    own = lambda value: getattr(getattr(value, "function", value), "__module__", None) == module.__name__  # noqa: E731
    combined = lambda value: isinstance(value, Expression) and not hasattr(value, "function")  # noqa: E731
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    rewards = [n for n, v in public.items() if isinstance(v, Expression) and (own(v) or combined(v))]
    return rewards or [n for n, v in public.items() if callable(v) and not isinstance(v, type) and own(v)]


def _only(module: ModuleType, place: str) -> Expression:
    names = _rewards(module)
    if len(names) != 1:
        raise SteelyardError(f"{place} has {_listed(names) or 'no rewards'}; say which one: {place}:NAME")
    return load_reward(f"{place}:{names[0]}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a table: JSONL (one object a line), JSONL packed with gzip (`.gz`), or Parquet (`.parquet`).

    Raises:
        SteelyardError: for a file that is not there or cannot be read, a line that is no JSON object, or no rows.
    """
    path = Path(path)
    if not path.is_file():
        raise SteelyardError(f"there is no file {path}; give a JSONL, JSONL.gz or Parquet file")
    rows = _parquet(path) if path.suffix == ".parquet" else [row for _, row in json_lines(path)]
    if not rows:
        raise SteelyardError(f"{path} has no rows; give at least one")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise SteelyardError(f"{path} is no Parquet file that can be read ({error})") from None
    return rows


def read_mapping(words: Iterable[str]) -> dict[str, str]:
    """Column to field, from words like `answer=ground_truth`.

    Raises:
        SteelyardError: for a word of another form, or a column that is given twice.
    """
    mapping: dict[str, str] = {}
    for word in words:
        column, equals, field = word.partition("=")
        if not (column and equals and field):
            raise SteelyardError(f"the mapping {word!r} is not COLUMN=FIELD; write for example answer=ground_truth")
        if column in mapping:
            raise SteelyardError(f"the column {column!r} is mapped to {mapping[column]!r} and {field!r}; map it once")
        mapping[column] = field
    return mapping


def rollouts_of(rows: Sequence[Row], mapping: Mapping[str, str] | None = None) -> Rollouts:
    """Rows of a table as rollouts: every field is a column; rows of one prompt are a group.

    Args:
        rows: field to value, the same fields in every row that a reward reads.
        mapping: column to field, `{"answer": "ground_truth"}`; a mapped field keeps its own name too. The completion is
            the first of `COMPLETIONS` and the prompt the first of `PROMPTS` that the first row has, unless mapped.

    Returns:
        Rollouts [N]; a sample's id is the row's `id`, else its number counted from 0.

    Raises:
        SteelyardError: naming row and field, for a field that a row lacks, or no field for the completion.
    """
    if not rows:
        raise SteelyardError("there are no rows; give at least one")
    mapping = dict(mapping or {})
    place = completion_field(rows, mapping)
    prompt = mapping.get("prompt") or next((name for name in PROMPTS if name in rows[0] and name != place), None)
    renamed = {column: field for column, field in mapping.items() if column not in ("completion", "prompt")}
    samples, completions, groups = [], [], []
    known: dict[str, int] = {}
    for number, row in enumerate(rows):
        completions.append(_field(row, place, number))
        asked: Prompt = _field(row, prompt, number) if prompt else ""
        columns = {**row, **{column: _field(row, field, number) for column, field in renamed.items()}}
        samples.append(Sample(str(row.get("id", number)), asked, columns=columns))
        key = json.dumps(asked, sort_keys=True, default=str) if prompt else str(number)
        groups.append(known.setdefault(key, len(known)))
    return Rollouts(samples, completions, group=groups)  # type: ignore[arg-type]


def completion_field(rows: Sequence[Row], mapping: Mapping[str, str]) -> str:
    """The field that holds what is judged.

    Raises:
        SteelyardError: where none is mapped and the first row has none of `COMPLETIONS`.
    """
    found = mapping.get("completion") or next((name for name in COMPLETIONS if name in rows[0]), None)
    if found is None:
        known = _listed(sorted(rows[0]))
        raise SteelyardError(f"no field is known to hold the completion among {known}; say which: completion=FIELD")
    return found


def _field(row: Row, name: str, number: int) -> Any:
    if name not in row:
        raise SteelyardError(f"row {number} has no field {name!r}; it has {_listed(sorted(row))}")
    return row[name]

"""`watch` around rewards and functions: nothing changes, logs survive, callbacks, threads, resuming, replay."""

import asyncio
import inspect
import json
import signal
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from steelyard.audits.monitor import Monitor, read_log, replay, watch
from steelyard.audits.monitor.replay import steps_so_far
from steelyard.cli import main
from steelyard.rewards import reward
from steelyard.types import Rollouts, Sample, SteelyardError
from tests.learn import tiny


@reward
def exact(completion: str, answer: str) -> float | None:
    """1 iff equal; no verdict of nothing."""
    return None if not completion else float(completion == answer)


@reward
def short(completion: str) -> float:
    """Shorter is better."""
    return 1 - len(completion) / 10


def rollouts(generator: np.random.Generator, *, groups: int = 4) -> Rollouts:
    samples = [Sample(str(g), f"p{g}", columns={"answer": "a"}) for g in range(groups) for _ in range(4)]
    texts = [str(t) for t in generator.choice(["a", "b", "", "bbbb"], groups * 4)]
    return Rollouts(samples, texts, group=np.repeat(range(groups), 4))


def test_a_watched_reward_gives_prints_and_combines_as_before() -> None:
    plain, rows = 0.8 * exact + 0.2 * short, rollouts(np.random.default_rng(0))
    watched = watch(plain, gold=exact)
    one, other = plain(rows), watched(rows)
    assert np.array_equal(one.values, other.values, equal_nan=True) and repr(watched) == repr(plain)
    assert one.parts.keys() == other.parts.keys()
    assert np.array_equal((watched + short)(rows).values, (plain + short)(rows).values, equal_nan=True)
    assert watched.monitor.step == 2


def test_functions_pass_values_and_exceptions_through() -> None:
    given = [1.0, None, 3.0]
    watched = watch(lambda completions, **columns: given)
    assert watched(completions=["a", "b", "c"], prompts=["p", "p", "q"]) is given
    single = watch(lambda text: {"total": len(text), "form": 1.0}, rows=3)
    assert [single("ab")["total"], single("a")["total"], single.monitor.step] == [2, 1, 0]
    single("abc")
    assert single.monitor.step == 1

    def broken(completions):
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        watch(broken)(["a"])
    with pytest.raises(SteelyardError, match="returned str 'high'"):
        watch(lambda text: "high")("a")
    with pytest.raises(SteelyardError, match="int 3 cannot be called"):
        watch(3)


class Awaited:
    """An object that is called as an async function is."""

    async def __call__(self, completions: list[str], **columns: object) -> list[float | None]:
        return [1.0, None, 3.0]


@pytest.mark.parametrize("function", [Awaited(), Awaited().__call__])
def test_an_async_function_is_awaited(function) -> None:
    watched = watch(function)
    assert asyncio.run(watched(completions=["a", "b", "c"], prompts=["p", "p", "q"])) == [1.0, None, 3.0]
    assert watched.monitor.step == 1 and inspect.iscoroutinefunction(watched)


def told(result: object, *given: object, **named: object) -> dict:
    """The figures that a watched function's result comes to."""
    monitor = Monitor()
    seen: list[dict] = []
    monitor.feed = seen.append  # type: ignore[method-assign, assignment]
    watch(lambda prompts=None, completions=None, **columns: result, monitor=monitor, rows=1)(*given, **named)
    return seen[0]


def test_numbers_of_any_kind_are_read() -> None:
    torch = pytest.importorskip("torch")
    texts = {"completions": ["a", "b", "c"]}
    single = [torch.tensor(1.0, dtype=torch.bfloat16), None, torch.tensor(3.0, requires_grad=True)]
    for values in (single, [np.float32(1), None, np.int64(3)], np.array([1, None, 3], object)):
        assert (told(values, **texts)["reward"], told(values, **texts)["failed"]) == (2.0, pytest.approx(1 / 3))
    assert told(torch.tensor([1.0, 2.0, 3.0], requires_grad=True), **texts)["reward"] == 2.0
    with pytest.raises(SteelyardError, match="must be numbers"):
        told(np.ones((3, 2)), **texts)


def test_what_is_judged_is_found_by_name_or_place() -> None:
    prompts, texts = ["p", "p", "q"], ["aaaa", "bb", "bb"]
    for given, named in (((prompts, texts), {}), ((prompts,), {"completions": texts})):
        figures = told([1.0, 2.0, 3.0], *given, **named)
        assert (figures["length"], figures["distinct"], figures["common"]) == (pytest.approx(8 / 3), 2 / 3, 2 / 3)
        assert figures["spread"] == 0.5  # two groups, one of them of a single row


def test_the_score_of_a_mapping_is_the_reward_and_its_remarks_are_none() -> None:
    figures = told({"score": 0.5, "acc": 1.0, "pred": "42"}, solution_str="x")
    assert (figures["reward"], set(figures["parts"])) == (0.5, {"acc"})
    assert told({"a": 0.5, "b": 1.0}, solution_str="x")["reward"] == 1.5


def fails_from(step: int) -> list[list[float | None]]:
    generator = np.random.default_rng(0)
    return [[None if t >= step and i % 2 else float(generator.random()) for i in range(16)] for t in range(step + 10)]


def test_alerts_reach_the_log_before_a_callback_that_stops_the_run(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(alert):
        raise Stop(str(alert))

    monitor = Monitor(log=tmp_path / "m.jsonl", on_alert=stop)
    with pytest.raises(Stop, match=r"alarm at step 22 \(since step 21\): Failures: .*could not be judged"):
        for values in fails_from(20):
            monitor.observe(values)
    last = json.loads((tmp_path / "m.jsonl").read_text().splitlines()[-1])
    assert (last["step"], [alert["detector"] for alert in last["alerts"]]) == (22, ["Failures"])


def test_threads_lose_no_row(tmp_path: Path) -> None:
    watched = watch(lambda text: float(len(text)), rows=10, monitor=Monitor(log=tmp_path / "m.jsonl"))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(watched, ["ab"] * 1000)) == [2.0] * 1000
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 101))


def test_replay_equals_live(tmp_path: Path) -> None:
    live = Monitor(log=tmp_path / "m.jsonl")
    for values in fails_from(20):
        live.observe(values, parts={"p": [0.0 if v is None else v for v in values]})
    assert live.alerts
    again = replay(tmp_path / "m.jsonl", Monitor())
    assert again == live.alerts


def test_a_resumed_monitor_raises_the_same_and_cuts_its_log(tmp_path: Path) -> None:
    steps = fails_from(20)
    whole, cut = Monitor(log=tmp_path / "whole.jsonl"), Monitor(log=tmp_path / "cut.jsonl")
    for values in steps:
        whole.observe(values)
    for values in steps[:19]:
        cut.observe(values)
    state = json.loads(json.dumps(cut.state_dict(), allow_nan=False))
    for values in steps[19:23]:  # steps that the checkpoint does not know
        cut.observe(values)
    resumed = Monitor(log=tmp_path / "cut.jsonl")
    resumed.load_state_dict(state)
    for values in steps[19:]:
        resumed.observe(values)
    assert resumed.alerts == whole.alerts != []
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "m.jsonl"
    code = f"""
from steelyard.audits.monitor import Monitor
monitor = Monitor(log={str(log)!r})
while True:
    monitor.observe([0.0, 1.0, 0.5], completions=["a" * 50, "b", "c"])
    if monitor.step == 30:
        print("ready", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = log.read_text()
    steps = [json.loads(line)["step"] for line in text.splitlines()]
    assert text.endswith("\n") and steps == list(range(1, len(steps) + 1)) and len(steps) >= 30
    log.write_text(text + '{"step": 9')  # as a full disk leaves it
    Monitor(log=log).observe([1.0], step=99)
    assert [row["step"] for row in read_log(log)] == [*steps, 99]


def test_tensorboard_gets_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from steelyard.learn.trackers import TensorBoard

    monitor = Monitor(trackers=[TensorBoard(tmp_path, first_step=0)])
    for values in ([0.0, 1.0], [1.0, 1.0]):
        monitor.observe(values, parts={"p": values})
    monitor.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("monitor/reward")] == [(1, 0.5), (2, 1.0)]
    assert [e.value for e in events.Scalars("monitor/part/p/std")] == [0.5, 0.0]


def test_weights_and_biases_gets_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steelyard.learn.trackers import Logged

    told: list[tuple[int, dict[str, float]]] = []
    fake = types.ModuleType("wandb")
    fake.__spec__ = types.SimpleNamespace(name="wandb")  # type: ignore[assignment]
    fake.init = lambda **given: None  # type: ignore[attr-defined]
    fake.log = lambda figures, step: told.append((step, dict(figures)))  # type: ignore[attr-defined]
    fake.finish = lambda: told.append((-1, {}))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    watched = watch(lambda completions, **columns: [None, 1.0], trackers=[Logged("wandb", tmp_path, {})])
    watched(completions=["a", "b"])
    watched.monitor.close()
    (step, figures), (end, _) = told
    assert (step, end) == (1, -1)
    assert (figures["monitor/reward"], figures["monitor/failed"], figures["monitor/alerts"]) == (1.0, 0.5, 0.0)


def test_in_our_trainer_it_follows_the_steps_and_resumes(tmp_path: Path) -> None:
    def train(name: str, steps: int) -> list[dict]:
        watched = watch(tiny.Wanted(), monitor=Monitor(log=tmp_path / name / "monitor.jsonl"))
        tiny.trainer(tmp_path / name, parts={"reward": watched}, steps=steps, schedule="constant").run()
        return list(read_log(tmp_path / name / "monitor.jsonl"))

    whole = train("whole", 6)
    assert [row["step"] for row in whole] == [1, 2, 3, 4, 5, 6]
    logged = list(read_log(tmp_path / "whole" / "log.jsonl"))
    assert [row["reward"] for row in whole] == pytest.approx([row["reward"] for row in logged])
    assert [row["length"] for row in whole] == pytest.approx([row["length"] for row in logged])


def trl_history() -> list[dict]:
    rows = [
        {"step": t, "loss": 0.1, "reward": 0.3 + t / 200, "reward_std": 0.3, "frac_reward_zero_std": 0.1,
         "completions/mean_length": 100.0 - t, "rewards/judge/mean": 0.3 + t / 200, "rewards/judge/std": 0.3}
        for t in range(1, 91)
    ]  # fmt: skip
    return [*rows, {"step": 90, "train_runtime": 3.0}]


def test_trl_logs_are_read(tmp_path: Path) -> None:
    state = tmp_path / "checkpoint-90" / "trainer_state.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"log_history": trl_history()}))
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trl_history()))
    one, other = replay(tmp_path, Monitor()), replay(tmp_path / "history.jsonl", Monitor())
    assert one == other and ("LengthDrift", "alarm") in {(alert.detector, alert.level) for alert in one}


def test_a_log_may_be_cut_off_anywhere_in_its_last_line(tmp_path: Path) -> None:
    whole = "".join(json.dumps({"step": t, "reward": 0.5, "parts": {"größe": {"mean": 0.1}}}, ensure_ascii=False) + "\n"
                    for t in (1, 2, 3)).encode()  # fmt: skip
    (tmp_path / "new.jsonl").touch()
    assert list(steps_so_far(tmp_path / "new.jsonl")) == []
    log, last = tmp_path / "m.jsonl", whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole) + 1):
        log.write_bytes(whole[:end])
        steps = [figures["step"] for figures in read_log(log)]
        assert steps == ([1, 2, 3] if end >= len(whole) - 1 else [1, 2]), whole[last:end]


def test_figures_that_are_not_finite_are_not_known(tmp_path: Path) -> None:
    history = trl_history()
    for row in history[4:60:3]:
        row |= {"rewards/judge/std": float("nan"), "reward_std": float("nan"), "completions/mean_length": float("inf")}
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    found = {(alert.detector, alert.level) for alert in replay(tmp_path / "history.jsonl", Monitor())}
    assert ("LengthDrift", "alarm") in found
    monitor = Monitor(log=tmp_path / "m.jsonl")
    monitor.tell(float("nan"))
    monitor.observe([1.0, float("inf"), float("nan")], parts={"p": [float("inf")] * 3})
    (row,) = read_log(tmp_path / "m.jsonl")
    assert (row["reward"], row["outcome"], row["parts"]["p"]["mean"]) == (1.0, None, None)
    assert row["failed"] == pytest.approx(2 / 3)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["watch", *words])
    return int(left.value.code or 0)


def test_the_command_prints_alarms_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "history.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in trl_history()))
    assert run(str(log), "--check", "--out", str(tmp_path / "out.jsonl")) == 3
    said = capsys.readouterr().out
    assert "LengthDrift" in said and "90 steps, 1 alarms" in said
    kept = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(kept) == 90 and [a["level"] for row in kept for a in row["alerts"]].count("alarm") == 1


@pytest.mark.parametrize(
    "text,complaint",
    [
        ('{"step": 1, "reward": 1}\n{"st\n', "line 2: this is not JSON"),
        ("[1]\n", "line 1: this is a JSON list"),
        ('{"a": 1}\n', "no step with a reward"),
        ("", "no step with a reward"),
    ],
)
def test_bad_logs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    assert run(str(tmp_path / "x.jsonl")) == 2
    assert complaint in capsys.readouterr().err.replace("\n", " ")
    assert run(str(tmp_path / "none.jsonl")) == 2
    assert "is not there" in capsys.readouterr().err

"""A run killed at any moment goes on to the same numbers, to the last bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steelyard.learn.loop import Interrupted
from steelyard.learn.objectives import clipped
from steelyard.learn.plans import groups
from steelyard.learn.runs import Run, RunFolder
from steelyard.types import SteelyardError
from tests.learn.stateful import start
from tests.learn.tiny import TinyPolicy, figures, trainer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    start(folder).run()
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    """Same log, same evaluations, same weights and optimiser state, bit for bit."""
    assert figures(Run(folder).rows()) == figures(Run(whole).rows())
    assert Run(folder).evaluations() == Run(whole).evaluations()
    assert Run(folder).about["status"] == "finished"
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*.safetensors"))]
    assert len(names) == 5
    for name in names:
        mine, theirs = load_file(folder / name), load_file(whole / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), name
    state, other = (json.loads((f / "checkpoints/step-000012/state.json").read_text()) for f in (folder, whole))
    assert {**state, "logs": 0} == {**other, "logs": 0}
    assert not list(folder.rglob(".unfinished-*"))


KILLS = {
    "writing": ["fsync:3", "save:3", "rename:1", "fsync:12", "rename:2"],
    "replacing": ["replace:1", "replace:2", "rmtree:1", "rmtree:2"],
    "training": ["append:1", "backward:3", "append:7", "truncate:2"],
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs that were killed at exact places, each again and again, and what became of every attempt."""
    folder = tmp_path_factory.mktemp("killed")
    words = [word for name, kills in KILLS.items() for word in (str(folder / name), *kills)]
    command = [sys.executable, "-m", "tests.learn.killed", *words]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


@pytest.mark.parametrize("name", KILLS)
def test_killed_at_exact_places(killed, whole, name):
    folder, lines = killed
    expected = [f"{name} {kill} killed" for kill in KILLS[name]] + [f"{name} None exit 0"]
    assert [line for line in lines if line.startswith(name)] == expected
    assert_same(folder / name, whole)


def test_killed_from_outside_at_random_moments(tmp_path, whole):
    moments, code = (
        random.Random(5),
        f"from tests.learn.stateful import start; start(__import__('pathlib').Path({str(tmp_path)!r})).run()",
    )
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / "log.jsonl").exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.wait()
    start(tmp_path).run()
    assert_same(tmp_path, whole)


def test_a_finished_run_is_not_trained_again(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "copy")
    again = start(tmp_path / "copy")
    again.run()
    assert_same(tmp_path / "copy", whole)
    assert torch.equal(again.policy.module.head, load_file(whole / "checkpoints/step-000012/model.safetensors")["head"])


def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "copy")
    newest = tmp_path / "copy/checkpoints/step-000012/model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-40])
    again = start(tmp_path / "copy")
    assert again.loop.step == 10
    again.run()
    assert_same(tmp_path / "copy", whole)


def test_events_of_repeated_steps_are_purged(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = start(tmp_path, checkpoint_every=4)
    first.loop.files.save = lambda *args, **kwargs: (
        None if first.loop.step > 4 else RunFolder.save(first.loop.files, *args, **kwargs)
    )
    first.run()
    start(tmp_path, checkpoint_every=4).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("reward")] == list(range(1, 13))


def test_other_settings_are_refused_by_name(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "copy")
    with pytest.raises(SteelyardError, match="another lr, seed; use its settings"):
        start(tmp_path / "copy", lr=0.5, seed=9)
    assert_same(tmp_path / "copy", whole)
    assert start(tmp_path / "copy", checkpoint_every=5, keep_checkpoints=1).loop.step == 12


def test_other_policy_is_refused(tmp_path):
    trainer(tmp_path, steps=1).run()
    policy = TinyPolicy()
    policy.module.head = torch.nn.Parameter(torch.zeros(16, 4))
    with pytest.raises(
        SteelyardError, match=r"weight 'head' is \(16, 20\) in the checkpoint and \(16, 4\) in the policy"
    ):
        trainer(tmp_path, policy=policy, steps=1)
    policy.module.head.requires_grad_(False)
    with pytest.raises(SteelyardError, match="this policy lacks the weight 'head'"):
        trainer(tmp_path, policy=policy, steps=1)


def test_a_log_that_was_cut_is_refused(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy/log.jsonl").write_text("")
    with pytest.raises(SteelyardError, match=r"log\.jsonl is shorter"):
        start(tmp_path / "copy")


def test_random_adapters_begin_where_the_run_began(tmp_path):
    first = TinyPolicy()
    with torch.no_grad():
        first.module.head.normal_(generator=torch.Generator().manual_seed(1))
    began = first.module.head.detach().clone()
    trainer(tmp_path, policy=first, steps=4, checkpoint_every=2).run()
    second = TinyPolicy()
    trainer(tmp_path, policy=second, steps=4, checkpoint_every=2)
    assert torch.equal(second.copies["reference"].head, began)
    assert torch.equal(second.module.head, first.module.head)


def test_bfloat16_resumes_exactly(tmp_path):
    whole, cut = TinyPolicy(dtype=torch.bfloat16), TinyPolicy(dtype=torch.bfloat16)
    settings = {"steps": 6, "checkpoint_every": 3, "lr": 1e-3}
    trainer(tmp_path / "whole", policy=whole, **settings).run()
    trainer(tmp_path / "cut", policy=cut, **settings).run()
    shutil.rmtree(tmp_path / "cut/checkpoints/step-000006")
    again = TinyPolicy(dtype=torch.bfloat16)
    resumed = trainer(tmp_path / "cut", policy=again, **settings)
    assert resumed.loop.step == 3
    resumed.run()
    assert torch.equal(again.module.head, whole.module.head)
    last = "checkpoints/step-000006/optimizer.safetensors"
    assert torch.equal(
        load_file(tmp_path / "cut" / last)["master.head"], load_file(tmp_path / "whole" / last)["master.head"]
    )


def test_keeps_the_newest_checkpoints(tmp_path):
    trainer(tmp_path, steps=7, checkpoint_every=2, keep_checkpoints=3).run()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000006",
        "step-000007",
    ]


def test_interrupt_finishes_the_step_and_says_how_to_go_on(tmp_path, whole, capsys):
    stopped = start(tmp_path, checkpoint_every=5)
    original = stopped.train_step

    def step():
        if stopped.loop.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return original()

    stopped.train_step = step
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped after step 7 of 12; run the same command again"):
        stopped.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert str(tmp_path) in capsys.readouterr().err
    assert Run(tmp_path).about["status"] == "interrupted"
    assert len(Run(tmp_path).rows()) == 7
    start(tmp_path).run()
    assert figures(Run(tmp_path).rows()) == figures(Run(whole).rows())


def test_trains_in_a_thread(tmp_path):
    thread = threading.Thread(target=lambda: trainer(tmp_path, steps=1).run())
    thread.start()
    thread.join()
    assert Run(tmp_path).about["status"] == "finished"


def test_a_run_without_clipping_goes_on(tmp_path, whole):
    start(tmp_path, grad_clip=float("inf")).run()
    assert start(tmp_path, grad_clip=float("inf")).loop.step == 12
    with pytest.raises(SteelyardError, match="another grad_clip"):
        start(tmp_path, grad_clip=5.0)


def test_a_damaged_start_or_log_is_one_sentence(tmp_path):
    trainer(tmp_path, steps=1).run()
    initial = tmp_path / "initial.safetensors"
    initial.write_bytes(initial.read_bytes()[:-40])
    with pytest.raises(SteelyardError, match="begin in another folder"):
        trainer(tmp_path, steps=1)
    log = tmp_path / "log.jsonl"
    log.write_text('{"name": "a\u2028b"}\n{"cut": ')
    assert Run(tmp_path).rows() == [{"name": "a\u2028b"}]
    log.write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(SteelyardError, match=r"log\.jsonl, line 2 is damaged"):
        Run(tmp_path).rows()


def test_another_recipe_does_not_go_on_with_the_run(tmp_path):
    trainer(tmp_path, steps=1).run()
    with pytest.raises(SteelyardError, match="another plan, objective; use its settings"):
        trainer(tmp_path, steps=1, parts={"objective": clipped(kl=0.1), "plan": groups(3)})
    assert trainer(tmp_path, steps=1).loop.step == 1, "a part without a printed form of its own is the same part"
    about = json.loads((tmp_path / "run.json").read_text())
    del about["recipe"]
    (tmp_path / "run.json").write_text(json.dumps(about))
    assert trainer(tmp_path, steps=1, parts={"plan": groups(3)}).loop.step == 1, "older runs do not say it"

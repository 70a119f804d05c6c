"""The audit: planted faults are found by name, honest rewards are left alone, and bad data is told or left out."""

import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.audits import Case, DoesNotFit, Outcome, Severity, audit, labelled_rollouts
from steelyard.audits.auditing import make_case
from steelyard.audits.probes import PROBES
from steelyard.audits.probes.best_of_n import best_of
from steelyard.rewards import bleu, math_correct, normalised, reward
from steelyard.rewards.text import token_f1
from steelyard.types import Rollouts, Sample, Status, SteelyardError, Verdict
from tests.audits.planted import (
    PLANTED,
    by_form,
    by_inclusion,
    by_length,
    case_sensitive,
    real,
    rollouts,
    table,
)

ROWS = rollouts()


def test_an_error_in_one_row_is_shown_with_its_words_and_the_reward_stays_as_it_was() -> None:
    judge = PLANTED["crashing"][0]
    finding = audit(judge, ROWS).found("rows that fail")
    assert finding is not None and "ZeroDivisionError: no such row" in finding.says
    failed = {row for row, value in enumerate(make_case(judge, ROWS).values) if np.isnan(value)}
    assert {example.row for example in finding.examples} <= failed
    with pytest.raises(SteelyardError, match="no such row"):
        judge(ROWS)


def test_examples_show_the_change_and_both_scores() -> None:
    finding = audit(by_form, ROWS).found("blind to wrong number")
    assert finding is not None and len(finding.examples) == 3
    for example in finding.examples:
        assert example.score == example.score_after == 1.0
        before, after = (text.rpartition("A: ") for text in (example.before, example.after or ""))
        assert before[0] == after[0] and before[2] != after[2]
        assert example.before == ROWS.completions[example.row]


def test_the_same_seed_gives_the_same_audit() -> None:
    one, two, other = (audit(by_inclusion, ROWS, seed=seed, sample=100).to_json() for seed in (1, 1, 2))
    for result in (one, two, other):
        result.pop("seconds")
        result["figures"].pop("speed")
    assert one == two
    assert one != other | {"seed": 1}


def test_files_hold_what_was_found(tmp_path: Path) -> None:
    result = audit(PLANTED["crashing"][0], ROWS)
    result.write(tmp_path / "new" / "folder")
    whole = json.loads((tmp_path / "new" / "folder" / "audit.json").read_text("utf-8"))
    lines = (tmp_path / "new" / "folder" / "findings.jsonl").read_text("utf-8").splitlines()
    assert whole["verdict"] == "do not train" and whole["rows"] == 480 and whole["labelled"] == 480
    assert [json.loads(line) for line in lines] == whole["findings"]
    assert whole["findings"][0]["severity"] == "critical" and whole["findings"][0]["examples"][0]["score"] is None
    assert set(whole["figures"]) | set(whole["skipped"]) == set(whole["questions"]) == {p.__name__ for p in PROBES}


def test_without_labels_what_needs_them_is_left_out() -> None:
    rows = [{k: v for k, v in row.items() if k not in ("is_correct", "answer")} for row in table()]
    result = audit(by_length, labelled_rollouts(rows))
    assert {"separation", "preference", "best_of_n", "calibration", "answer_lists"} <= set(result.skipped)
    assert "label" in result.skipped["separation"]
    assert result.found("length bias") is not None and result.verdict == "do not train"


def test_one_class_only_is_no_separation() -> None:
    rows = [row for row in table() if row["is_correct"]]
    result = audit(math_correct, labelled_rollouts(rows))
    assert "one class only" in result.skipped["separation"] and "same score" in result.skipped["best_of_n"]
    assert [f.name for f in result.findings] == ["saturated"] and result.verdict == "train with care"
    assert "same for all rows" in audit(by_length, labelled_rollouts(rows)).skipped["best_of_n"]


def test_few_rows_say_nothing() -> None:
    result = audit(math_correct, labelled_rollouts(table(prompts=3)))
    assert {"separation", "preference", "sensitivity", "length"} <= set(result.skipped)
    assert [finding.name for finding in result.findings] == ["too little could be asked"]
    assert result.verdict == "train with care", "a green light needs something that was looked at"


def test_bad_data_is_told() -> None:
    with pytest.raises(SteelyardError, match="no rows to audit"):
        audit(math_correct, Rollouts([], []))
    with pytest.raises(SteelyardError, match="no column 'answer'"):
        audit(math_correct, Rollouts([Sample("a", "")], ["x"]))
    with pytest.raises(SteelyardError, match="label is 'x' in row 0"):
        audit(by_length, Rollouts([Sample("a", "")], ["x"], columns={"label": ["x"]}))
    with pytest.raises(SteelyardError, match="neither 0 nor 1"):
        audit(by_length, Rollouts([Sample("a", "")], ["x"], columns={"label": [2]}))
    with pytest.raises(SteelyardError, match="gold has 1 values for 480 rows"):
        audit(math_correct, ROWS, gold=[1.0])
    with pytest.raises(SteelyardError, match=r"row 1: 'is_correct' is 'maybe'"):
        labelled_rollouts([{"completion": "a", "is_correct": True}, {"completion": "b", "is_correct": "maybe"}])
    with pytest.raises(SteelyardError, match="row 1 has no field 'rejected'"):
        labelled_rollouts([{"chosen": "a", "rejected": "b"}, {"chosen": "a"}])


def test_a_judge_that_fails_half_of_its_rows_is_told_with_its_statuses() -> None:
    said = iter(range(10**6))

    @reward
    def judge(completion: str, answer: str) -> Verdict | float:
        """Fails every third time and cannot read every sixth."""
        turn = next(said) % 6
        if turn in (0, 2):
            return Verdict(float("nan"), Status.FAILED)
        return Verdict(float("nan"), Status.UNPARSED) if turn == 4 else 1.0

    finding = audit(judge, ROWS).found("rows that fail")
    assert finding is not None and finding.severity is Severity.CRITICAL
    assert finding.says == "240 of 480 rows have no score: 160 failed, 80 unparsed."
    assert "failures" in finding.advice and "on_error" not in finding.advice


@pytest.mark.parametrize("whole", [False, True])
def test_a_reward_that_raises_on_an_empty_answer_is_told(whole: bool) -> None:
    def last(completion: str, answer: str) -> float:
        return float(completion.splitlines()[-1].endswith(answer))

    @reward(batch=True)
    def together(rows: Rollouts) -> np.ndarray:
        """All rows at once."""
        return np.asarray([last(*row) for row in zip(rows.completions, rows.column("answer"), strict=True)])

    finding = audit(together if whole else reward(last), ROWS).found("stops at an answer without content")
    assert finding is not None and "IndexError" in finding.says and finding.examples[0].after == ""


def test_rows_in_pairs_are_held_against_their_better_answer() -> None:
    """A learned reward has another offset for every prompt: what is paid is seen beside the prompt's own answers."""
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnop"), 6)) for _ in range(400)]
    rows = [
        {
            "prompt": f"{100 * (i % 2)} {words[i]}?",
            "chosen": f"good {words[i]} {words[-i]}",
            "rejected": f"bad {words[-i]}",
        }
        for i in range(200)
    ]

    @reward
    def learned(prompt: str, completion: str) -> float:
        """The prompt's offset, 2 for the good, 1 for the bad, 0 for all else."""
        return float(prompt.partition(" ")[0]) + 2 * completion.startswith("good") + completion.startswith("bad")

    result = audit(learned, labelled_rollouts(rows))
    assert not [finding.name for finding in result.findings if finding.name.startswith("pays")]
    assert result.figures["empty_and_keys"][0].estimate.value == 0.0
    assert result.skipped["calibration"].startswith("rows were compared in pairs")

    @reward
    def fooled(prompt: str, completion: str) -> float:
        """The same, but a refusal is better than anything."""
        return learned.function(prompt, completion) + 3 * ("do not know" in completion)

    finding = audit(fooled, labelled_rollouts(rows)).found("pays for a refusal")
    assert finding is not None and "score above the better answer" in finding.says
    assert finding.examples[0].prompt.endswith("?")


def test_missing_answers_and_chat_messages_are_read() -> None:
    rows = [{**row, "answer": None if i % 3 else row["answer"]} for i, row in enumerate(table())]
    result = audit(math_correct, labelled_rollouts(rows))
    assert result.verdict == "train" and result.figures["failures"][1].name == "rows it does not apply to"
    chats = [{**row, "completion": [{"role": "assistant", "content": row["solution"]}]} for row in table()]
    assert audit(math_correct, labelled_rollouts(chats)).verdict == "train"


def test_rows_that_are_put_to_the_reward_are_counted() -> None:
    seen = []

    @reward(batch=True)
    def counting(rows: Rollouts) -> np.ndarray:
        """Right or wrong, and how many were asked."""
        seen.append(len(rows))
        return math_correct(rows).values

    assert audit(counting, ROWS, sample=100).asked == sum(seen)


def test_bad_labels_and_gold_are_told_before_the_reward_is_asked() -> None:
    @reward
    def dear(completion: str) -> float:
        """Must not be asked."""
        raise AssertionError("the reward was asked")

    rows = [Sample(str(i), "") for i in range(3)]
    with pytest.raises(SteelyardError, match="neither 0 nor 1"):
        audit(dear, Rollouts(rows, ["x"] * 3, columns={"label": [1, 0, 3]}))
    with pytest.raises(SteelyardError, match="gold has 2 values"):
        audit(dear, Rollouts(rows, ["x"] * 3), gold=[1.0, 0.0])
    with pytest.raises(SteelyardError, match="no column 'answer'"):
        audit(dear, Rollouts(rows, ["x"] * 3), gold=math_correct)


def test_completions_that_are_no_texts_leave_out_what_reads_texts() -> None:
    @reward
    def turns(completion: list) -> float:
        """Counts messages."""
        return float(len(completion))

    talks = [[{"role": "assistant", "content": "x"}] * (1 + i % 3) for i in range(60)]
    result = audit(turns, Rollouts([Sample(str(i), "p") for i in range(60)], talks))
    assert result.skipped["invariance"] == result.skipped["length"] == "completions are not texts"


def test_pairs_become_two_rows_with_labels() -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "better"}]
    rows = labelled_rollouts(
        [{"prompt": "q", "chosen": chat, "rejected": "worse"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    )
    assert rows.completions == ["better", "worse", "a", "b"]
    assert rows.column("label") == [1, 0, 1, 0] and rows.column("pair") == [0, 0, 1, 1]
    told = labelled_rollouts(
        [{"instruction": "q", "output_1": "x", "output_2": "y", "preference": p} for p in (2, 1, 0)]
    )
    assert told.column("label") == [0, 1, 1, 0, None, None]
    mapped = labelled_rollouts(
        [{"q": "q", "win": "x", "lose": "y"}], {"chosen": "win", "rejected": "lose", "prompt": "q"}
    )
    assert mapped.completions == ["x", "y"] and mapped.column("prompt") == ["q", "q"]


def test_a_gold_reward_shows_over_optimisation() -> None:
    """The proxy agrees with gold up to where it is gamed, as in a reward model far from its data."""
    generator = np.random.default_rng(0)
    proxy = generator.normal(size=(200, 16))
    gold = np.where(proxy < 1, proxy, 2 - 3 * proxy)
    samples = [Sample(str(i), str(i // 16)) for i in range(3200)]
    rows = Rollouts(samples, ["text"] * 3200, np.repeat(np.arange(200), 16), columns={"proxy": proxy.ravel().tolist()})

    @reward
    def learned(proxy: float) -> float:
        """A stand-in for a learned reward."""
        return proxy

    bad = audit(learned, rows, gold=gold.ravel())
    finding = bad.found("over-optimised")
    assert finding is not None and finding.severity == Severity.CRITICAL
    curve = bad.curves["best_of_n"]
    assert curve["gold"]["x"] == [1, 2, 4, 8, 16] and np.all(np.diff(curve["reward"]["y"]) > 0)
    assert audit(learned, rows, gold=learned).found("over-optimised") is None


def test_best_of_n_is_exact() -> None:
    values, gold = np.array([3.0, 1.0, 2.0]), np.array([0.0, 6.0, 3.0])
    assert best_of(values, gold, [1, 2, 3]).tolist() == pytest.approx([3.0, (3 + 0 + 0) / 3, 0.0])
    assert best_of(np.ones(3), gold, [1, 2, 3]).tolist() == pytest.approx([3.0, 3.0, 3.0])


def test_rewards_of_a_group_are_compared_within_the_same_groups() -> None:
    assert not make_case(normalised(math_correct + 0.1 * by_length), ROWS, sample=100).rowwise
    result = audit(normalised(math_correct), ROWS)
    assert [finding.name for finding in result.findings if finding.severity == Severity.CRITICAL] == []
    assert audit(normalised(PLANTED["nothing"][0]), ROWS).found("pays for nothing") is not None


def test_a_probe_of_ones_own_is_asked() -> None:
    def hello(case: Case) -> Outcome:
        """Does it say hello?"""
        if case.gold is None:
            raise DoesNotFit("there is no gold")
        return Outcome()

    told: list[str] = []
    result = audit(math_correct, ROWS, probes=[hello], told=told.append)
    assert result.skipped == {"hello": "there is no gold"} and result.questions == {"hello": "Does it say hello?"}
    assert told == ["hello"]


def test_a_worked_gold_is_listed_by_its_final_answer() -> None:
    rows = [{**row, "answer": f"First we add.\nThen we add again.\nA: {row['answer']}"} for row in table()]
    result = audit(math_correct, labelled_rollouts(rows))
    assert result.verdict == "train" and "answer_lists" not in result.skipped
    names = {figure.name for figure in result.figures["sensitivity"]}
    told = ("wrong number", "wrong sign", "wrong scale", "swapped answer")
    assert names == {f"good rows that fall: {name}" for name in told}


def test_gsm8k_with_math_correct_is_clean_and_planted_faults_are_not() -> None:
    given = real("gsm8k-model-solutions.jsonl.gz")
    rows = labelled_rollouts(given, {"answer": "ground_truth"})
    clean = audit(math_correct, rows)
    assert clean.verdict == "train" and clean.findings == []
    assert clean.figures["separation"][0].estimate.low > 0.99
    assert audit(by_length, rows).found("length bias") is not None
    worked = labelled_rollouts([{**row, "answer": row["ground_truth"].rpartition("A: ")[2]} for row in given])
    assert audit(case_sensitive, worked).found("falls with case") is not None
    assert audit(by_inclusion, worked).found("pays for a list of answers") is not None


def test_real_preferences_of_annotators() -> None:
    rows = labelled_rollouts(real("alpaca-preferences.jsonl.gz"))
    result = audit(by_length, rows)
    assert result.verdict == "do not train" and result.found("length bias") is not None
    rate = result.figures["preference"][0].estimate
    assert rate.n == 3195 and rate.low > 0.5, "annotators do prefer longer answers"


def test_bleu_is_blind_to_a_turned_statement_and_says_so() -> None:
    byq: dict[str, list[str]] = {}
    given = real("alpaca-preferences.jsonl.gz")[:1200]
    for row in given:
        byq.setdefault(row["instruction"], []).append(row["output_2"])
    rows = [
        {"instruction": r["instruction"], "output": r["output_2"], "references": byq[r["instruction"]]} for r in given
    ]
    result = audit(0.5 * bleu + 0.5 * bleu, labelled_rollouts(rows), sample=300)
    assert result.found("blind to another question's answer") is None
    assert result.skipped["separation"].startswith("the data has no labels")


def test_token_f1_is_told_to_be_strict_but_not_refused() -> None:
    bare = [{**row, "solution": row["solution"].rpartition("A: ")[2]} for row in table()]
    result = audit(token_f1, labelled_rollouts(bare))
    assert result.found("falls with politeness") is not None
    alarms = {finding.name for finding in result.findings if finding.severity > Severity.NOTE}
    assert alarms == {"blind to wrong sign", "blind to wrong scale"}, "its words lose both"

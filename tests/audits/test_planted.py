"""The audit finds what is planted, by name, and leaves honest rewards alone: made rows, multiple choice, real ones."""

import numpy as np
import pytest

from steelyard.audits import Severity, audit, labelled_rollouts
from steelyard.rewards import choice_correct, math_correct, reward
from steelyard.rewards.text import exact_match, normalised_match, token_f1
from tests.audits.planted import CHOOSING, PLANTED, choices, chosen, real, rollouts, table

ROWS = rollouts()


@reward
def signed(completion: str, answer: str) -> float:
    """1 for right, -1 for wrong, 0 where nothing is said: an honest reward that lets a policy abstain."""
    if not any(letter.isdigit() for letter in completion):
        return 0.0
    return 2.0 * float(math_correct.function(completion, answer)) - 1.0


@pytest.mark.parametrize("what", PLANTED)
def test_planted_faults_are_found_by_name(what: str) -> None:
    judge, name, severity = PLANTED[what]
    result = audit(judge, ROWS)
    finding = result.found(name)
    assert finding is not None, [finding.name for finding in result.findings]
    assert finding.severity.name.lower() == severity
    assert finding.figure is not None and finding.figure.low <= finding.figure.value <= finding.figure.high
    worst = max(f.severity for f in result.findings)
    assert result.verdict == ("train", "train with care", "do not train")[worst]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prompts", [30, 120])
def test_honest_rewards_are_left_alone(prompts: int, seed: int) -> None:
    rows = table(prompts=prompts, seed=seed)
    bare = [{**row, "solution": row["solution"].rpartition("A: ")[2]} for row in rows]
    optional = choices(rows, seed=seed)
    letters = [{**row, "solution": chosen(row["solution"])} for row in optional]
    given_to = [(math_correct, rows), (exact_match, bare), (math_correct, bare), (signed, rows)]
    given_to += [(choice_correct, optional), (choice_correct, letters), (exact_match, letters)]
    for judge, given in given_to:
        result = audit(judge, labelled_rollouts(given), seed=seed)
        alarms = [finding.name for finding in result.findings if finding.severity > Severity.NOTE]
        assert alarms == [] and result.verdict == "train", judge.name


@pytest.mark.parametrize("what", CHOOSING)
def test_faults_of_multiple_choice_are_found_by_name(what: str) -> None:
    judge, name, severity = CHOOSING[what]
    finding = audit(judge, labelled_rollouts(choices(table()))).found(name)
    assert finding is not None and finding.severity.name.lower() == severity


def test_real_questions_as_multiple_choice() -> None:
    """Options of real GSM8K questions: the honest reward is clean, those that lean to an option are not."""
    given = [
        {**row, "answer": row["ground_truth"].rpartition("A: ")[2].strip()}
        for row in real("gsm8k-model-solutions.jsonl.gz")[:1200]
        if row["solution"].rpartition("A: ")[1]
    ]
    rows = labelled_rollouts(choices(given))
    clean = audit(choice_correct, rows)
    assert clean.verdict == "train" and clean.figures["option_order"][0].estimate.value == 0.0
    for what in CHOOSING:
        assert audit(CHOOSING[what][0], rows).found(CHOOSING[what][1]) is not None


def test_a_normalised_match_of_numbers_is_told_to_lose_sign_and_point() -> None:
    bare = [{**row, "solution": row["solution"].rpartition("A: ")[2]} for row in table()]
    result = audit(normalised_match, labelled_rollouts(bare))
    assert result.verdict == "train with care"
    assert result.found("blind to wrong sign") is not None and result.found("blind to wrong scale") is not None


@pytest.mark.parametrize(("part", "name"), [(-1, "reads only the end"), (0, "reads only the beginning")])
def test_a_reward_that_reads_one_line_of_many_is_told(part: int, name: str) -> None:
    @reward
    def one_line(completion: str, answer: str) -> float:
        """The words of one line."""
        lines = [text.strip().split("\n")[part] for text in (completion, answer)]
        return float(token_f1.function(*lines))

    generator, words = np.random.default_rng(0), "abcdefghijklmnopqrstuvwxyz"
    texts = [
        "\n".join(" ".join("".join(generator.choice(list(words), 4)) for _ in range(8)) for _ in range(4))
        for _ in range(60)
    ]
    rows = [
        {"prompt": f"p{i}", "completion": text, "answer": texts[i - shift], "label": 1 - shift}
        for i, text in enumerate(texts)
        for shift in (0, 1)
    ]
    assert audit(one_line, labelled_rollouts(rows)).found(name) is not None
    whole = audit(token_f1, labelled_rollouts(rows))
    assert whole.found(name) is None and whole.figures["reach"][0].estimate.value == 1.0


def test_one_wording_of_a_set_that_is_paid_otherwise_is_found() -> None:
    rows = [
        {
            **row,
            "paraphrases": [row["solution"].replace("At first", "First"), row["solution"].replace("Then", "So then")],
        }
        for row in table()
    ]
    clean = audit(math_correct, labelled_rollouts(rows))
    assert clean.verdict == "train" and {f.estimate.value for f in clean.figures["paraphrases"]} == {0.0}

    @reward
    def wants_its_words(completion: str, answer: str) -> float:
        """Right, and in these words."""
        return float("So then" not in completion and math_correct.function(completion, answer))

    finding = audit(wants_its_words, labelled_rollouts(rows)).found("falls with paraphrase")
    assert finding is not None and finding.severity is Severity.WARNING and "So then" in str(finding.examples[0].after)

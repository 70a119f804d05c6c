"""BLEU against sacrebleu, on texts that are made to trip tokenizers and on worked numbers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.rewards import bleu, bleuberi, harmonic_mean, normalised, reward, rouge, score_one
from steelyard.rewards.ngrams import tokens_13a
from steelyard.rewards.overlap import bleu_scores
from steelyard.types import Rollouts, Sample, SteelyardError

NASTY = st.text(alphabet="ab1 9.,-'\n\t<>&;/()[]{}|~$%é\u00a0\u3000\u0661", max_size=40)
PIECES = st.lists(
    st.sampled_from(
        ["the", "cat", "sat", ".", ",", "3.5", "1,000", "10-", "&amp;", "&lt;", "<skipped>", "-\n", "...", "x.y"]
    ),
    max_size=25,
)
JOINED = st.builds(str.join, st.sampled_from([" ", "", " . "]), PIECES)
NUMBERS = st.text(alphabet="5.,- a)", max_size=12)
LONG = st.lists(
    st.sampled_from(["abcdefg", "abcdefgh", "abcdefghi", "abcdefghij", "é" * 4, "é" * 5, "a", "a\0", "\ud800"])
)
TEXTS = st.one_of(NASTY, JOINED, NUMBERS, LONG.map(" ".join), st.text(max_size=30))


def ours(completion: str, references: list[str]) -> float:
    """The score alone, which company in the batch must not change."""
    value = bleu_scores([completion], references)[0]
    together = bleu_scores([completion, "the cat 1", "", completion, *references], references)
    assert together[0] == together[3] == value
    return float(value)


@settings(max_examples=500)
@given(TEXTS)
def test_words_are_those_of_sacrebleu(text: str) -> None:
    tokenizer = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a")
    assert tokens_13a(text) == tokenizer.Tokenizer13a()(text.rstrip()).split()


@settings(max_examples=300)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_equal_to_sacrebleu(completion: str, references: list[str]) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    assert ours(completion, references) == pytest.approx(
        sacrebleu.sentence_bleu(completion, references).score / 100, abs=1e-9
    )


def test_worked_numbers() -> None:
    assert ours("the cat sat on the mat", ["the cat sat on the mat"]) == pytest.approx(1, abs=1e-12)
    assert ours("the cat", ["the cat sat on the mat"]) == pytest.approx(math.exp(1 - 6 / 2), abs=1e-12)
    # 1-grams clipped to 1 of 2, 2-grams none of 1, smoothed to 1 / (2 · 1)
    assert ours("the the", ["the cat"]) == pytest.approx(0.5, abs=1e-12)
    assert ours("", ["the cat"]) == ours("dog", ["the cat"]) == ours("the cat", [""]) == 0


def test_rows_are_scored_against_their_own_references() -> None:
    texts = ["a b c d e", "a b c x e", "x", "a b c d e"]
    samples = [
        Sample(str(i), "", columns={"references": r}) for i, r in enumerate(["a b c x e", ["x", texts[1]], "x", "x"])
    ]
    values = bleu(Rollouts(samples, texts)).values
    assert values == pytest.approx([ours(texts[0], ["a b c x e"]), 1, 1, 0])


@pytest.mark.parametrize("references", [[], [None], [3], None])
def test_references_are_texts(references: object) -> None:
    with pytest.raises(SteelyardError, match=r"row 0: references are .*; give a text or a list of texts"):
        score_one(bleu, completion="a", references=references)


def own_bleu(completion: str, references: object) -> float:
    return float(score_one(bleuberi, completion=completion, references=references).parts["bleuberi"][0])


MAT = "The cat sat on the mat."


@pytest.mark.parametrize(
    ("completion", "references", "value"),
    [
        (MAT, MAT, 1), ("The cat sat on the rug.", MAT, 0.70710678), ("The cat sat", MAT, 0.26359714),
        (MAT + " It was a very sunny day and the cat was happy.", MAT, 0.34669778),
        ("the the cat", ["the cat", "the the dog"], 0.84089642), ("yes", "no", 0.84089642),
        ("alpha beta gamma delta epsilon zeta eta theta", "one two three four five six seven eight", 0.13485112),
        ("", MAT, 0), (" \n", MAT, 0), ("<skipped>", MAT, 0), (MAT, "<skipped>", 0), ("x", "x", 1),
        (f"<think>hm</think><answer>{MAT}</answer>", MAT, 1), (f"so <answer>{MAT}", MAT, 1),
    ],
)  # fmt: skip
def test_bleu_of_sheet_51(completion: str, references: object, value: float) -> None:
    assert own_bleu(completion, references) == pytest.approx(value, abs=1e-8)


def test_parts_of_bleuberi() -> None:
    parts = score_one(bleuberi, completion="The cat sat on the rug.", references=[MAT, MAT + " So it did."]).parts
    assert [parts[f"precision_{n}"][0] for n in (1, 2, 3, 4)] == pytest.approx([0.875, 5 / 7, 4 / 6, 3 / 5])
    assert (parts["words"][0], parts["reference_words"][0], parts["brevity"][0]) == (7, 7, 1)
    missing = Rollouts([Sample("s", "", columns={"references": "a"})] * 2, [float("nan"), None])
    assert bleuberi(missing).values.tolist() == [0, 0]


@settings(max_examples=100)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), TEXTS)
def test_more_references_never_match_less(completion: str, references: list[str], more: str) -> None:
    sets = [references, [*references, more]]
    few, many = (score_one(bleuberi, completion=completion, references=texts).parts for texts in sets)
    assert all(few[f"precision_{n}"][0] <= many[f"precision_{n}"][0] for n in (1, 2, 3, 4))
    if tokens_13a(completion):
        assert own_bleu(completion, completion) == pytest.approx(1) or "<answer>" in completion


def test_the_mix_with_a_reward_model_of_sheet_51() -> None:
    @reward
    def model(rm: float) -> float:
        """Of the column."""
        return rm

    columns = {"references": [["a b c d"]] * 3, "rm": [1.0, 0.0, -2.0]}
    rollouts = Rollouts([Sample("s", "")] * 3, ["a b c d", "a b x y", "z"], columns=columns)
    mixed = normalised(bleuberi + model, by=(), epsilon=1e-6) / 2
    assert mixed(rollouts).values == pytest.approx([0.95229053, 0.07572345, -1.02801394], abs=1e-6)


def test_rouge_and_its_mean_with_bleu() -> None:
    given = {"completion": "The cat sat on a mat.", "references": [MAT]}
    assert score_one(rouge, **given).values[0] == pytest.approx(5 / 6)
    assert score_one(harmonic_mean(bleuberi, rouge), **given).values[0] == pytest.approx(0.69401241)
    assert score_one(rouge.using(kind="rouge2"), **given).values[0] == pytest.approx(3 / 5)
    assert score_one(rouge, completion="cats", references=["dog", "cat"]).values[0] == 0
    assert score_one(rouge.using(stem=True), completion="cats", references=["dog", "cat"]).values[0] == 1
    with pytest.raises(SteelyardError, match="kind is 'rouge9'"):
        score_one(rouge.using(kind="rouge9"), **given)
    with pytest.raises(SteelyardError, match="give a text or a list of texts"):
        score_one(rouge, completion="a", references=[])


def test_many_groups_are_scored_as_each_alone() -> None:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "3.5", "dogs", ",", "ran", "..5", "away"]
    texts = [" ".join(words[i % 13 :: 1 + i % 3] + words[: i % 5]) for i in range(900)]
    golds = [[texts[(7 * i) % 900], texts[(11 * i) % 900]][: 1 + i % 2] for i in range(300)]
    samples = [Sample(str(i), "", columns={"references": golds[i // 3]}) for i in range(900)]
    values = bleu(Rollouts(samples, texts)).parts["bleu"]
    assert len({tuple(gold) for gold in golds}) > 20
    for i in range(0, 900, 37):
        assert values[i] == bleu_scores([texts[i]], golds[i // 3])[0]


def test_many_distinct_words_are_told_apart() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    words = [f"{letter}{i * 7919}" for i in range(3000) for letter in ("w", "an-unusually-long-word-")]
    gold, other = " ".join(words), " ".join(words[1::3] + [word + "0" for word in words])
    scores = bleu_scores([gold, other, gold[:-1]], [gold])
    metric = sacrebleu.BLEU(effective_order=True)
    for score, text in zip(scores, (gold, other, gold[:-1]), strict=True):
        assert score == pytest.approx(metric.sentence_score(text, [gold]).score / 100, abs=1e-9)

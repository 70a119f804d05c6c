"""BLEU against sacrebleu, on texts that are made to trip tokenizers and on worked numbers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.rewards import bleu, score_one
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
TEXTS = st.one_of(NASTY, JOINED, st.text(max_size=30))


def ours(completion: str, references: list[str]) -> float:
    """The score alone, which company in the batch must not change."""
    value = bleu_scores([completion], references)[0]
    together = bleu_scores([completion, "the cat 1", "", completion, *references], references)
    assert together[0] == together[3] == value
    return float(value)


@settings(max_examples=300)
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

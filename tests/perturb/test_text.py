"""Text perturbations: worked changes, what survives them, and that the same seed makes the same change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.perturb.text import KINDS, TextPerturbation, perturb_prompt, shuffle_options
from steelyard.perturb.text import functional as change
from steelyard.rewards.final_answers import final_answer
from steelyard.types import Perturbation, Sample, SteelyardError


def drawn(seed: int = 0) -> np.random.Generator:
    """A stream."""
    return np.random.default_rng(seed)


@given(st.text(max_size=80), st.sampled_from(sorted(KINDS)), st.integers(0, 9))
def test_any_text_is_changed_the_same_way_twice(text: str, kind: str, seed: int) -> None:
    one, two = (KINDS[kind](text, drawn(seed)) for _ in range(2))
    assert one == two and (one is None or isinstance(one, str))


@given(st.integers(-(10**6), 10**6), st.integers(0, 20))
def test_kinds_say_rightly_whether_a_number_survives(number: int, seed: int) -> None:
    text = f"We have counted all of them one by one.\nThe answer is {number}."
    for kind in KINDS.values():
        changed = kind(text, drawn(seed))
        if changed is not None and kind.name not in ("negation", "word_order"):
            assert (final_answer(changed.replace("*", "")) == str(number)) == kind.keeps_answer, kind.name


@pytest.mark.parametrize("text", ["A: 18", "it is 3.50 now", "1,234 of them", "9" * 30, "0", "x -7."])
def test_a_wrong_number_has_the_form_of_the_right_one(text: str) -> None:
    for seed in range(20):
        changed = change.wrong_number(text, drawn(seed))
        assert changed is not None and changed != text
        old, new = change.last_number(text), change.last_number(changed)
        assert (
            old is not None and new is not None and ("." in old) == ("." in new) and float(old) != float(new)
        ) or len(old) > 15


def test_worked_changes() -> None:
    assert change.wrong_number("no digits, only v2x", drawn()) is None
    assert change.negated("Yes, it is so.", drawn()) == "No, it is so."
    assert change.negated("The cat is here.", drawn()) == "The cat is not here."
    assert change.negated("It is not so.", drawn()) is None
    assert change.lower_case("A Big Day", drawn()) == "a big day"
    assert change.lower_case(r"\frac{A}{B}", drawn()) is None and change.lower_case("small", drawn()) is None
    assert change.bold_end("one\ntwo\n", drawn()) == "one\n**two**"
    assert change.truncated("a b c d e", drawn()) == "a b" and change.truncated("a b c", drawn()) is None
    assert change.repeated(" x ", drawn()) == "x\nx\nx" and change.repeated("  ", drawn()) is None
    assert len(change.filler("x" * 500, drawn())) >= 1000
    assert change.swapped_words("It is 18, not 180 or 18.5: 18.", "18", "7") == "It is 7, not 180 or 18.5: 7."
    assert change.swapped_words("Paris, paris", "Paris", "Rome") == "Rome, Rome"
    assert change.swapped_words("x", "y", "z") is None and change.swapped_words("x", "x", "X") is None
    assert change.names_in("Ask Anna, or Ben. Then go to Rome.") == ["Anna", "Ben", "Rome"]
    assert change.swapped_name("We ask Anna. For Anna, no.", ["Anna", "Zoe"], drawn()) == "We ask Zoe. For Zoe, no."
    assert change.padded_space("a\nb", drawn()).split() == ["a", "b"]


def test_signs_points_layout_and_closings() -> None:
    assert change.other_sign("A: 18", drawn()) == "A: -18" and change.other_sign("A: -18", drawn()) == "A: 18"
    assert change.other_sign("it is 0", drawn()) is None and change.other_sign("2024-05", drawn()) is None
    assert change.moved_point("A: 18", drawn()) == "A: 1.8" and change.moved_point("3.5 of", drawn()) == "35 of"
    assert change.moved_point("-0.25", drawn()) == "-2.5" and change.moved_point("1,234", drawn()) is None
    assert change.moved_point("0.5", drawn()) == "5" and change.moved_point("10.05", drawn()) == "100.5"
    assert change.moved_point("A: 8", drawn()) is None and change.moved_point("none", drawn()) is None
    assert change.laid_out("We add.\n1 + 1\nA: 2", drawn()) == "## In detail\n\n- We add.\n1 + 1\nA: 2"
    assert change.laid_out("```\nx\n```", drawn()) is None and change.laid_out("18", drawn()) == "## In detail\n\n18"
    assert change.closed("A: 18\n", drawn()).startswith("A: 18\n\n") and change.closed("<a>x</a>", drawn()) is None
    assert change.lower_words("The Answer is (B).", drawn()) == "the answer is (B)."
    assert change.lower_words("B", drawn()) is None
    assert len(change.filler("x" * 5_000_000, drawn())) >= 10_000_000


def test_a_prompt_is_perturbed_by_seed_and_spec() -> None:
    sample = Sample("a", [{"role": "user", "content": "How MANY?"}, {"role": "assistant", "content": "X"}])
    perturbation = perturb_prompt("case", seed=3)
    assert isinstance(perturbation, Perturbation) and perturbation.keeps_answer
    changed = TextPerturbation(**perturbation.spec())(sample)
    assert changed.prompt == [{"role": "user", "content": "how many?"}, {"role": "assistant", "content": "X"}]
    assert not perturb_prompt("negation", seed=0).keeps_answer
    assert perturb_prompt("truncation", seed=0)(Sample("b", "one two")).prompt == "one two"
    with pytest.raises(SteelyardError, match="no text perturbation 'rot13'"):
        perturb_prompt("rot13", seed=0)


def test_options_letters_answer_and_completion_move_together() -> None:
    options = ["A. red", "B. green", "C. blue"]
    sample = Sample("a", "Which?\nA. red\nB. green\nC. blue", columns={"options": options, "answer": "B"})
    for seed in range(10):
        found = shuffle_options(sample, "The answer is (B).", drawn(seed))
        assert found is not None
        moved, text = found
        shown, letter = moved.columns["options"], moved.columns["answer"]
        assert [option[:2] for option in shown] == ["A.", "B.", "C."] and letter != "B"
        assert shown["ABC".index(letter)].endswith("green") and text == f"The answer is ({letter})."
        assert moved.prompt == "Which?\n" + "\n".join(shown)


def test_options_are_looked_for_from_the_end_and_in_messages() -> None:
    """The question holds the same numbers: it must stay as it is."""
    asked, options = "Of 18 eggs 6 are eaten, how many are left?", ["18", "6", "12"]
    shown = "\n(A) {}\n(B) {}\n(C) {}\nAnswer with a letter."
    columns = {"options": options, "answer": "C"}
    for prompt in (asked + shown.format(*options), [{"role": "user", "content": asked + shown.format(*options)}]):
        moved, text = shuffle_options(Sample("a", prompt, columns=columns), "(C)", drawn())
        words = moved.prompt if isinstance(prompt, str) else moved.prompt[0]["content"]
        assert words == asked + shown.format(*moved.columns["options"]) and moved.columns["options"] != options
        assert (
            moved.columns["options"]["ABC".index(moved.columns["answer"])] == "12"
            and text[1] == moved.columns["answer"]
        )
    half = Sample("a", "18 or 6?", columns=columns)
    assert shuffle_options(half, "(C)", drawn()) is None
    silent = shuffle_options(Sample("a", "Which?", columns=columns), "(C)", drawn())
    assert silent is not None and silent[0].prompt == "Which?"


def test_options_are_left_where_it_is_unclear_what_was_chosen() -> None:
    sample = Sample("a", "Which?", columns={"options": ["red", "green"], "answer": "A"})
    for completion in ("A or B", "green", "It is D."):
        assert shuffle_options(sample, completion, drawn()) is None
    assert shuffle_options(Sample("a", "Which?", columns={"answer": "A"}), "A", drawn()) is None
    free = Sample("a", "?", columns={"options": ["1", "2"], "answer": "1"})
    assert shuffle_options(free, "A", drawn()) is None

"""Cards as text: what a person reads of a method, and how a result is put."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from steelyard.methods.cards import card_page, listing, result_page, table
from steelyard.methods.registry import find, slugs
from steelyard.types import SteelyardError

RESULT = {
    "title": "A paper",
    "claim": "It helps.",
    "verdict": "unclear",
    "quick": False,
    "seeds": [7, 8],
    "command": "steelyard evidence rova --seeds 2 --first-seed 7",
    "experiments": [
        {
            "name": "bench-top",
            "verdict": "unclear",
            "arms": {
                "ours": {
                    "corrupted": [0.5, 0.7], "clean": [0.9, 0.9], "agreement": [1.0, 1.0], "gradient_prompts": [8, 8],
                },
            },
            "claims": [
                {
                    "text": "better", "metric": "corrupted", "arm": "ours", "baseline": "ours", "at_least": None,
                    "at_most": 0.4, "form": "share", "effect": 0.125, "interval": [-0.25, 0.5], "verdict": "unclear",
                }
            ],
        }
    ],
}  # fmt: skip


def test_the_listing_has_a_row_for_every_method() -> None:
    lines = listing().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == slugs()


@pytest.mark.parametrize("slug", slugs())
def test_a_card_shows_claim_settings_and_how_to_use_it(slug: str, tmp_path: Path) -> None:
    page, card = card_page(slug, results=tmp_path), find(slug).card
    used = card.usage or f"steelyard run {slug} --model"
    for text in (card.title, card.source, card.claim, card.problem, used, *card.limits):
        assert text in page
    for name, value in card.settings.items():
        assert f"| {name} | {value} |" in page


def test_rovas_card_shows_its_recipe_and_what_would_refute_it(tmp_path: Path) -> None:
    page = card_page("rova", results=tmp_path)
    assert "think_format + correct + 0.5 * same_reasoning + 0.5 * same_answer" in page
    assert "Not measured here yet" in page
    for experiment in find("rova").evidence:
        assert all(claim.text in page for claim in experiment.claims)


def test_a_result_stands_on_the_card_whichever_way_it_went(tmp_path: Path) -> None:
    (tmp_path / "01-rova.json").write_text(json.dumps(RESULT))
    page = card_page("rova", results=tmp_path)
    assert "**Verdict: unclear.** 2 paired seeds, 7 to 8" in page
    assert "| arm (mean over seeds) | corrupted |" in page and "| ours | 0.600 |" in page
    assert "| better | +0.125 | -0.250 … +0.500 | ≤ 0.4 | unclear |" in page
    assert "quick" not in page
    assert "quick run" in result_page(RESULT | {"quick": True})


def test_an_unknown_method_names_its_neighbour() -> None:
    with pytest.raises(SteelyardError, match="did you mean 'rova'"):
        card_page("rovva")


def test_tables_escape_bars_and_vanish_without_rows() -> None:
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |"
    assert table(("a",), []) == ""

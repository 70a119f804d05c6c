"""The endpoint judge under every fault, its retries, rate limit, cache and bookkeeping, over a real socket."""

import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from steelyard.audits.reasoning_quality import rate
from steelyard.rewards.judges import (
    AnswerCache,
    EndpointJudge,
    Prices,
    RateLimit,
    compare_criteria,
    judged,
    judged_similarity,
    preferred,
    preferred_in_group,
    score_list,
    verified,
    verify,
)
from steelyard.rewards.judges.cache import forget_unread, key_of
from steelyard.rewards.judges.transport import retry_after
from steelyard.rewards.rubrics import checklist, rubric
from steelyard.types import Rollouts, Sample, SteelyardError
from tests.rewards.chat_server import RAW, Server, judge


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("fault", [*RAW, "empty", "blank", "null", "number", "halved", "endless", "cut", "filtered"])
def test_a_reply_that_is_none_is_none_and_counted_and_its_neighbours_stay(server: Server, fault: str) -> None:
    asked = judge(server)
    assert asked.ask(["before", fault, "after"]) == ["echo before", None, "echo after"]
    assert sum(asked.failures.values()) == 1 and asked.usage.answers == 2


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("refusal", "refused"), ("tool call", "tool call"), ("only reasoning", "only reasoning"),
        ("parts", "empty reply"), ("object", "empty reply"), ("true", "empty reply"),
    ],
)  # fmt: skip
def test_what_comes_instead_of_a_text_is_no_answer_and_named(server: Server, said: str, kind: str) -> None:
    """Each says YES somewhere else than in its text, or in a text of another type."""
    asked = judge(server)
    assert asked.ask(["before", said, "spoken"]) == ["echo before", None, "x"]
    assert dict(asked.failures) == {kind: 1}


def test_a_connection_that_is_reset_in_the_middle_is_tried_again_and_then_none(server: Server) -> None:
    asked = judge(server, retries=1)
    assert asked.ask(["reset", "after"]) == [None, "echo after"]
    assert dict(asked.failures) == {"APIConnectionError": 1} and asked.usage.requests == 3


@pytest.mark.parametrize("code", ["400", "403", "409", "422", "429", "500", "503"])
def test_an_error_of_the_endpoint_is_none_and_counted(server: Server, code: str) -> None:
    asked = judge(server)
    assert asked.ask([code, "after"]) == [None, "echo after"]
    assert sum(asked.failures.values()) == 1


def test_a_reply_that_comes_byte_by_byte_meets_the_deadline(server: Server) -> None:
    """Each read is fast enough; the whole is not."""
    asked = judge(server, timeout=0.5)
    assert asked.ask(["drip"]) == [None] and dict(asked.failures) == {"APITimeoutError": 1}


def test_retry_after_holds_everybody_back(server: Server) -> None:
    clock = Clock()
    limit = RateLimit(clock=clock, sleep=clock.sleep)
    server.retry_after = "0.25"
    asked = judge(server, retries=1, limit=limit, concurrency=1)
    assert asked.ask(["busy", "next"]) == ["echo busy", "echo next"]
    assert asked.usage.requests == 3 and not asked.failures
    assert clock.slept == [pytest.approx(0.25)], "the request behind the refused one waited on the limit"


@pytest.mark.parametrize(
    ("header", "seconds"), [("2", 2.0), ("0.5", 0.5), (None, 0), ("-1", 0), ("soon", 0), ("9999", 0)]
)
def test_retry_after_is_read_as_seconds_up_to_two_minutes(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date_by_the_endpoints_own_clock(server: Server) -> None:
    now = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after("Wed, 21 Oct 2015 07:28:30 GMT", now) == 30.0
    for header, told in ((now, now), ("Wed, 21 Oct 2015 08:28:00 GMT", now), (now, None), ("soon", now), (now, "?")):
        assert retry_after(header, told) == 0.0, "past, too long, without the other date, or no date"
    clock = Clock()
    server.retry_after = formatdate(time.time() + 2.5, usegmt=True)
    asked = judge(server, retries=1, limit=RateLimit(clock=clock, sleep=clock.sleep), concurrency=1)
    assert asked.ask(["busy", "next"]) == ["echo busy", "echo next"]
    assert len(clock.slept) == 1 and 1 <= clock.slept[0] <= 3


def test_a_wrong_key_or_model_stops_at_once_but_not_in_the_middle_of_a_run(server: Server) -> None:
    with pytest.raises(SteelyardError, match="404; check the model's name"):
        judge(server).ask(["404"])
    with pytest.raises(SteelyardError, match="401; check the key"):
        judge(server).ask(["401"])
    asked = judge(server)
    assert asked.ask(["a"]) == ["echo a"] and asked.ask(["404"]) == [None]


def test_concurrency_bounds_all_callers_together(server: Server) -> None:
    asked = judge(server, concurrency=2)
    threads = [threading.Thread(target=asked.ask, args=([f"wait {i} {j}" for j in range(3)],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 9 and server.most_at_once == 2


def test_usage_counts_tokens_retries_and_cost(server: Server) -> None:
    asked = judge(server, retries=1, prices=Prices(prompt=2.0, completion=10.0))
    asked.ask(["a", "b", "no usage", "odd", "null"])
    report = asked.report()
    assert (report["asked"], report["requests"], report["answers"], report["unreported"]) == (5, 5, 4, 2)
    assert (report["prompt_tokens"], report["completion_tokens"]) == (30, 15)
    assert report["cost"] == pytest.approx((30 * 2 + 15 * 10) / 1e6) and report["failures"] == {"empty reply": 1}


def test_options_travel_in_the_body(server: Server) -> None:
    judge(server, options={"seed": 7, "reasoning_effort": "low"}).ask(["a"])
    assert server.requests[0]["seed"] == 7 and server.requests[0]["reasoning_effort"] == "low"


# Cache.


def test_cache_answers_across_processes_and_keeps_no_failure(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from steelyard.rewards.judges import EndpointJudge\n"
        "judge = EndpointJudge('m', base_url=sys.argv[1], api_key_env=None, retries=0, cache=sys.argv[2])\n"
        "print(judge.ask(['a', 'null', 'a', '500', 'b']), judge.usage.cached)"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path / "answers")]
    outs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert outs[0].split("] ")[0] == outs[1].split("] ")[0] == "['echo a', None, 'echo a', None, 'echo b'"
    assert [out.split("] ")[1].strip() for out in outs] == ["1", "3"]
    asked = [request["messages"][-1]["content"] for request in server.requests]
    assert sorted(asked) == sorted(["a", "null", "500", "b", "null", "500"])


def test_cache_is_keyed_by_all_that_determines_the_answer(server: Server, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    variants = [{}, {"temperature": 0.5}, {"max_tokens": 9}, {"options": {"seed": 1}}]
    for options in variants:
        judge(server, cache=cache, **options).ask(["a"])
    EndpointJudge("other", base_url=server.url, api_key_env=None, cache=cache).ask(["a"])
    assert len(server.requests) == 5 == len(cache)
    prompts = ["a", [{"role": "user", "content": "a"}], [{"role": "system", "content": "a"}]]
    assert len({key_of({"model": "m"}, prompt) for prompt in prompts}) == 3


def test_draws_at_a_temperature_are_different_answers(server: Server, tmp_path: Path) -> None:
    """Five votes of a sampling judge are five questions; of a deterministic one they are one."""
    drawn = judge(server, temperature=1.0, cache=tmp_path)
    drawn.ask(["a"] * 5)
    assert len(server.requests) == 5
    drawn.ask(["a"] * 6)
    assert len(server.requests) == 6 and drawn.usage.cached == 5


def test_an_answer_that_cannot_be_read_is_counted_and_asked_for_again(server: Server, tmp_path: Path) -> None:
    """A verdict and a prose that is none, in two runs that share a cache: only the prose is asked for twice."""
    says = {"YES": ("YES",), "prose": ("well, I think so", "NO")}
    for turn, (values, requests) in enumerate((([1.0, None], 2), ([1.0, 0.0], 3), ([1.0, 0.0], 3))):
        server.says = {text: answers[min(turn, len(answers) - 1)] for text, answers in says.items()}
        asked = judge(server, cache=tmp_path)
        verdicts = verify(
            asked, ["q"] * 2, ["r"] * 2, list(says), prompt=lambda question, reference, response: response
        )
        assert [None if v.value != v.value else v.value for v in verdicts] == values
        assert len(server.requests) == requests
        assert asked.report()["unread"] == values.count(None) and not asked.failures


def test_an_unread_draw_is_forgotten_alone(server: Server, tmp_path: Path) -> None:
    drawn = judge(server, temperature=1.0, cache=tmp_path)
    replies = drawn.ask(["a"] * 3)
    forget_unread(drawn, ["a"] * 3, replies, [True, False, True])
    assert len(drawn.cache) == 2 and drawn.usage.unread == 1
    drawn.ask(["a"] * 3)
    assert len(server.requests) == 4 and len(drawn.cache) == 3
    drawn.cache.drop(key_of(drawn.settings, "a"), "another answer, which somebody else did not put there")
    assert len(drawn.cache) == 3


def test_every_reader_tells_the_judge_what_it_could_not_read(server: Server, tmp_path: Path) -> None:
    """Echoes are no verdicts: nothing of them may stay in the cache, whoever asked."""
    asked = judge(server, cache=tmp_path)
    sample = Sample("1", "q", columns={"answer": "a", "reference": "r"})
    rows = Rollouts([sample, sample], ["one", "two"], group=[0, 0])
    rewards = [judged(asked), verified(asked), preferred(asked), preferred_in_group(asked)]
    rewards += [rubric(asked, ["Is it short?"]), checklist(asked, ["Is it short?"])]
    for count, reward in enumerate(rewards, 1):
        assert np.isnan(reward(rows).values).all() and len(asked.cache) == 0, f"reward {count}: {reward!r}"
    compare_criteria(asked, ["q"], ["a"], ["b"])
    score_list(asked, ["q"], [["a", "b"]])
    judged_similarity(asked)(["a"], ["b"])
    rate(asked, [sample], *[[{"completion": "c", "kind": "fog", "severity": 1, "answer": "a"}]] * 2)
    assert len(asked.cache) == 0 and asked.usage.unread == asked.usage.answers - asked.usage.cached > 12


def test_two_processes_fill_one_cache_at_the_same_time(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from steelyard.rewards.judges import EndpointJudge\n"
        "judge = EndpointJudge('m', base_url=sys.argv[1], api_key_env=None, retries=3, cache=sys.argv[2])\n"
        "texts = [f'question {i}' for i in range(60)]\n"
        "assert judge.ask(texts) == [f'echo {text}' for text in texts]\n"
        "print(judge.usage.answers + judge.usage.cached, sum(judge.failures.values()))"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path / "answers")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [process.communicate(timeout=300)[0] for process in running]
    assert outs == ["60 0\n"] * 2 and len(server.requests) >= 60
    before = len(server.requests)
    third = judge(server, cache=tmp_path / "answers")
    assert third.ask([f"question {i}" for i in range(60)])[-1] == "echo question 59"
    assert len(server.requests) == before and third.usage.cached == 60


def test_a_folder_that_cannot_hold_a_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SteelyardError, match="cannot hold a cache"):
        AnswerCache(tmp_path / "file").get("k")


# Rate limit.


def test_no_window_holds_more_requests_than_the_limit() -> None:
    clock = Clock()
    limit = RateLimit(requests=3, per=60, clock=clock, sleep=clock.sleep)
    sent = [limit.acquire().at for _ in range(10)]
    assert all(sum(start <= at < start + 60 for at in sent) <= 3 for start in sent)
    assert sent[-1] == 180.0


def test_no_window_holds_more_tokens_than_the_limit_and_the_true_number_counts() -> None:
    clock = Clock()
    limit = RateLimit(tokens=100, per=60, clock=clock, sleep=clock.sleep)
    first = limit.acquire(90)
    limit.settle(first, 10)
    assert limit.acquire(90).at == 0.0 and limit.acquire(20).at == 60.0
    assert limit.acquire(500).at == 120.0, "dearer than the limit: it waits until nothing else stands there"


def test_a_window_begins_when_its_request_has_left(server: Server) -> None:
    clock = Clock()
    limit = RateLimit(requests=1, per=60, clock=clock, sleep=clock.sleep)
    first = limit.acquire()
    clock.now = 5.0
    limit.sent(first)
    assert limit.acquire().at == 65.0
    left = []

    class Watched(RateLimit):
        def sent(self, grant) -> None:
            left.append(len(server.requests))
            super().sent(grant)

    judge(server, limit=Watched(), concurrency=1, retries=1).ask(["a", "once", "b"])
    assert len(left) == len(server.requests) == 4, "retries are requests too"


def test_requests_over_the_socket_keep_to_the_limit_and_retries_count(server: Server) -> None:
    clock = Clock()
    limit = RateLimit(requests=2, per=60, clock=clock, sleep=clock.sleep)
    asked = judge(server, limit=limit, concurrency=1, retries=1)
    assert asked.ask(["once", "b", "c"]) == ["echo once", "echo b", "echo c"]
    assert asked.usage.requests == 4 and clock.now == 60.0


def test_limit_charges_the_tokens_that_the_endpoint_reports(server: Server) -> None:
    clock = Clock()
    limit = RateLimit(tokens=1000, per=60, clock=clock, sleep=clock.sleep)
    judge(server, limit=limit, concurrency=1, max_tokens=600).ask(["a", "b", "c"])
    assert clock.now == 0.0, "each was thought to take over 600 and took 15"


@pytest.mark.parametrize("options", [{"requests": 0}, {"tokens": -1}, {"per": 0}])
def test_a_limit_that_lets_nothing_pass_is_refused(options: dict) -> None:
    with pytest.raises(SteelyardError, match="must be positive"):
        RateLimit(**options)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"timeout": 0}, {"max_tokens": 0}, {"retries": -1}])
def test_settings_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(SteelyardError, match="judge 'm'"):
        EndpointJudge("m", **options)
    with pytest.raises(SteelyardError, match="must be 0 or more"):
        Prices(prompt=-1, completion=0)

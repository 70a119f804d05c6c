"""The reward server: real processes, real sockets, real signals."""

import base64
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.engines.serving import SERVED, Server, environment, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("mixed"), f"{SERVED}:mixed", "--max-body", "0.01") as server:
        yield server


def test_rows_in_rewards_status_and_parts_out(mixed: Server) -> None:
    done = mixed.rewards(["a", "", "<think>x</think><answer>y</answer>"], answer=["a", "b", "c"])
    assert done.status_code == 200
    assert done.json()["rewards"] == [pytest.approx(0.8), None, pytest.approx(0.2)]
    assert done.json()["status"] == ["scored", "not_applicable", "scored"]
    assert done.json()["parts"] == {"same": [1.0, None, 0.0], "think_format": [0.0, 0.0, 1.0]}
    assert "NaN" not in done.text


def test_chat_completions_are_their_text(mixed: Server) -> None:
    chat = [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]
    assert mixed.rewards([chat], answer=["a"]).json()["parts"]["same"] == [1.0]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 400, "JSON list"),
        (b'{"completion": ["a"]}', 400, "no columns"),
        (b'{"columns": {"completion": "a"}}', 400, "JSON str"),
        (b'{"columns": {"completion": []}}', 400, "no rows"),
        (b'{"columns": {"completion": ["a"], "answer": []}}', 400, "send equal ones"),
        (b'{"columns": {"completion": ["a"], "answer": ["a"]}, "groups": [1]}', 400, "'groups'"),
        (b'{"columns": {"completion": ["a"]}}', 422, "no column 'answer'"),
        (b"[" * 5000, 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (b'{"columns": {"completion": [[{"role": "a", "content": 5}]], "answer": ["a"]}}', 422, "a list of parts"),
        (b'{"columns": {"completion": [[{"role": "a", "content": [5]}]], "answer": ["a"]}}', 422, "a list of parts"),
        (b'{"columns": {"completion": ["' + b"a" * 20000 + b'"]}}', 413, "larger than"),
    ],
)
def test_what_is_wrong_is_told(mixed: Server, body: bytes, code: int, words: str) -> None:
    done = mixed.client.post("/rewards", content=body)
    assert (done.status_code, words in done.json()["error"]) == (code, True), done.text


def test_a_body_of_unknown_length_is_limited_too(mixed: Server) -> None:
    done = mixed.client.post("/rewards", content=(b"a" * 1000 for _ in range(100)))
    assert done.status_code == 413


PLAIN = b'{"columns": {"completion": ["a"], "answer": ["a"]}}'


@pytest.mark.parametrize(
    ("body", "encoding", "code", "words"),
    [
        (gzip.compress(PLAIN), "gzip", 200, "scored"),
        (PLAIN, "identity", 200, "scored"),
        (gzip.compress(PLAIN)[:-9], "gzip", 400, "cut off"),
        (PLAIN, "gzip", 400, "is no gzip"),
        (gzip.compress(b"1," * 5_000_000), "gzip", 413, "larger than"),
        (PLAIN, "br", 415, "plain or as gzip"),
    ],
)
def test_bodies_may_be_gzip_and_do_not_burst(mixed: Server, body: bytes, encoding: str, code: int, words: str) -> None:
    done = mixed.client.post("/rewards", content=body, headers={"Content-Encoding": encoding})
    assert (done.status_code, words in done.text) == (code, True), done.text


def test_unknown_paths_and_methods(mixed: Server) -> None:
    unknown, wrong = mixed.client.get("/nothing"), mixed.client.get("/rewards")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found"})
    assert (wrong.status_code, wrong.json()) == (405, {"error": "Method Not Allowed"})


def test_health_and_metrics(mixed: Server) -> None:
    assert mixed.client.get("/health").json()["status"] == "ready"
    assert mixed.client.get("/health/live").json() == {"status": "live"}
    before = metric(mixed, 'steelyard_rows_total{status="not_applicable"}')
    mixed.rewards(["", ""], answer=["a", "b"])
    assert metric(mixed, 'steelyard_rows_total{status="not_applicable"}') == before + 2
    assert metric(mixed, "steelyard_workers_ready") == 1
    assert metric(mixed, "steelyard_waiting") == 0


def metric(server: Server, name: str) -> float:
    """A figure of `/metrics`; 0 where it is not there yet."""
    lines = server.client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


def openrlhf(server: Server, **body: list) -> httpx.Response:
    """Ask as OpenRLHF's single-turn executor does."""
    return server.client.post("/get_reward", json=body)


def test_openrlhf_gets_its_three_fields(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:filled", "--end", "<|im_end|>", "--label", "answer") as server:
        query = ["<|user|>1 + 1?<|assistant|>2<|im_end|>\n", "<s>3?4"]
        done = openrlhf(server, query=query, prompts=["<|user|>1 + 1?<|assistant|>", "3?"], labels=["2", "3"])
        assert done.json() == {"rewards": [1.0, 0.0], "scores": [1.0, 0.0], "extra_logs": {"same": [1.0, 0.0]}}
        lost = openrlhf(server, query=["+ 1?2"], prompts=["1 + 1?"], labels=["2"])
        assert (lost.status_code, "does not hold its prompt" in lost.text) == (400, True)
        wrong = openrlhf(server, query=["a"], prompts=[None], labels=["2"])
        assert (wrong.status_code, "list of texts" in wrong.text) == (400, True)
        unjudged = openrlhf(server, query=["q"], prompts=["q"], labels=["2"])  # an empty completion: filled with 0
        assert unjudged.json() == {"rewards": [0.0], "scores": [0.0], "extra_logs": {}}


def test_openrlhf_is_never_sent_a_row_without_a_verdict(mixed: Server) -> None:
    done = openrlhf(mixed, query=["q"], prompts=["q"], labels=["2"])
    assert (done.status_code, "fill(reward, VALUE)" in done.text) == (422, True)


def test_only_the_token_lets_in(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:mixed", "--token-env", "SECRET", SECRET="correct horse") as server:
        basic = base64.b64encode(b"any:correct horse").decode()
        shown = [
            "Bearer correct horse",
            f"Basic {basic}",
            "Bearer wrong",
            "Basic !",
            "Basic \xe9",
            "",
            "correct horse",
            "Bearer \xe9",
        ]
        codes = [
            server.rewards(["a"], {"Authorization": words.encode("latin-1")}, answer=["a"]).status_code  # type: ignore[dict-item]
            for words in shown
        ]
        assert codes == [200, 200, 401, 401, 401, 401, 401, 401]
        assert server.client.get("/metrics").status_code == 401
        assert server.client.get("/health").status_code == 200
        assert "correct horse" not in server.log.read_text()


def test_a_token_may_have_any_letters(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:mixed", "--token-env", "SECRET", SECRET="pässwörd") as server:
        for shown, code in (("Bearer pässwörd", 200), ("Bearer password", 401)):
            done = server.rewards(["a"], {"Authorization": shown.encode()}, answer=["a"])  # type: ignore[dict-item]
            assert done.status_code == code


def test_trouble_in_the_reward(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:troublesome", "--timeout", "2") as server:
        failed = server.rewards(["fine", "boom"])
        assert (failed.status_code, "row 1" in failed.text, "KeyError" in failed.text) == (422, True, True)
        died = server.rewards(["die"])
        assert (died.status_code, "code 7" in died.text) == (500, True)
        server.wait()
        began = time.monotonic()
        slow = server.rewards(["sleep 30"])
        assert (slow.status_code, "2 seconds" in slow.text) == (504, True)
        assert time.monotonic() - began < 10
        server.wait()
        assert server.rewards(["fine"]).json()["rewards"] == [4.0]
        assert metric(server, 'steelyard_worker_restarts_total{reason="died"}') == 1
        assert metric(server, 'steelyard_worker_restarts_total{reason="timeout"}') == 1


def test_a_row_may_fail_alone_where_the_reward_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:forgiving") as server:
        done = server.rewards(["1.5", "no number"]).json()
        assert (done["rewards"], done["status"]) == ([1.5, None], ["scored", "failed"])


def test_groups_are_given_or_follow_from_the_prompts(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:share_of_group") as server:
        assert server.rewards(["a", "b", "c"], prompt=["p", "p", "q"]).json()["rewards"] == [2.0, 2.0, 1.0]
        assert server.rewards(["a", "b", "c"]).json()["rewards"] == [1.0, 1.0, 1.0]
        body = {"columns": {"completion": ["a", "b", "c"]}, "group": ["x", "y", "x"]}
        assert server.client.post("/rewards", json=body).json()["rewards"] == [2.0, 1.0, 2.0]


def test_several_workers_judge_at_once_and_overload_is_refused(tmp_path: Path) -> None:
    options = ["--workers", "2", "--queue", "1"]
    with serving(tmp_path, f"{SERVED}:troublesome", *options) as server, ThreadPoolExecutor(6) as threads:
        while server.client.get("/health").json()["workers"] < 2:
            time.sleep(0.1)
        done = list(threads.map(lambda _: server.rewards(["sleep 1"]), range(6)))
        codes = sorted(answer.status_code for answer in done)
        assert codes == [200, 200, 200, 429, 429, 429]
        refused = next(answer for answer in done if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert server.rewards(["fine"]).status_code == 200
        assert metric(server, 'steelyard_requests_total{code="429",path="/rewards"}') == 3


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_finish(sent: signal.Signals, tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:troublesome") as server, ThreadPoolExecutor(1) as threads:
        slow = threads.submit(server.rewards, ["sleep 2"])
        time.sleep(0.5)
        server.process.send_signal(sent)
        assert slow.result().json()["rewards"] == [7.0]
        assert server.process.wait(10) == (0 if sent == signal.SIGTERM else 130)
        with pytest.raises(httpx.TransportError):
            server.client.get("/health")


def test_a_shutdown_under_load_answers_all_that_it_took(tmp_path: Path) -> None:
    codes: list[int] = []

    def client(_: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as mine:
            while True:
                try:
                    done = mine.post("/rewards", json={"columns": {"completion": ["sleep 0.05"]}})
                except httpx.ConnectError:  # a new connection, after the end
                    return
                codes.append(done.status_code)
                if done.status_code == 503:
                    assert (done.headers["connection"], int(done.headers["retry-after"])) == ("close", 1)
                    return
                assert done.json()["rewards"] == [10.0]

    with serving(tmp_path, f"{SERVED}:troublesome") as server, ThreadPoolExecutor(8) as threads:
        clients = threads.map(client, range(8))
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        list(clients)  # raises what a client that was cut off saw
        assert server.process.wait(10) == 0
    assert set(codes) == {200, 503}


def test_a_client_that_leaves_midway_harms_nobody(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:troublesome") as server:
        url, body = httpx.URL(server.url), b'{"columns": {"completion": ["sleep 0.5"]}}'
        head = b"POST /rewards HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        for sent in (body, body[:10]):
            with socket.create_connection((url.host, url.port)) as raw:
                raw.sendall(head % len(body) + sent)
                time.sleep(0.2)
        assert server.rewards(["fine"]).json()["rewards"] == [4.0]
        assert server.client.get("/health").json()["taken"] == 0
        assert "Traceback" not in server.log.read_text()


def test_a_killed_server_leaves_no_worker(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:troublesome") as server:
        threading.Thread(target=lambda: ignored(server), daemon=True).start()
        time.sleep(0.5)
        everyone = {
            pid
            for task in Path(f"/proc/{server.process.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        }
        assert everyone
        server.process.kill()
        server.process.wait()
        for _ in range(50):
            alive = [pid for pid in everyone if alive_still(pid)]
            if not alive:
                return
            time.sleep(0.1)
        raise AssertionError(f"workers {alive} live on")


def ignored(server: Server) -> None:
    """Ask for something slow, whatever comes of it."""
    with pytest.raises(httpx.TransportError):
        server.rewards(["sleep 60"])


def alive_still(pid: str) -> bool:
    """Whether a process runs."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_reward_may_use_processes_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:by_processes") as server:
        assert server.rewards(["a", "bb"]).json()["rewards"] == [1.0, 2.0]


def test_a_slow_body_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, f"{SERVED}:troublesome", "--timeout", "1") as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port)) as raw:
            raw.sendall(b"POST /rewards HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            raw.settimeout(10)
            assert raw.recv(200).startswith(b"HTTP/1.1 408")
        assert server.rewards(["fine"]).status_code == 200


def left(*words: str, **extra: str) -> tuple[int, str]:
    """Exit code and standard error of a `serve` that ends by itself."""
    command = [sys.executable, "-m", "steelyard.cli", "serve", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**extra))
    return done.returncode, done.stderr


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    code, words = left(f"{SERVED}:nothing", "--port", "0")
    assert (code, "has no 'nothing'" in words) == (2, True)
    (tmp_path / "exits.py").write_text("import os\nos._exit(9)\n")
    code, words = left(str(tmp_path / "exits.py:reward"), "--port", "0")
    assert (code, "ended with code 9" in words) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, words = left(f"{SERVED}:mixed", "--port", str(taken.getsockname()[1]))
    assert (code, "cannot listen" in words) == (2, True)
    code, words = left(f"{SERVED}:mixed", "--token-env", "NOT_SET")
    assert (code, "holds no token" in words) == (2, True)
    code, words = left(f"{SERVED}:mixed", "--token-env", "SHORT", SHORT="abc")
    assert (code, "8 or more" in words) == (2, True)


def test_answers_are_strict_json(mixed: Server) -> None:
    done = mixed.rewards([""], answer=["a"])
    json.loads(done.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

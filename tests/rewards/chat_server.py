"""A small chat endpoint over a real socket that does what the last message says, with every fault of a real one."""

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from steelyard.rewards.judges import EndpointJudge

RAW = {
    "garbage": b"<html>\x00 not JSON",
    "other": b'{"choices": []}',
    "no choices": b"{}",
    "list": b"[]",
    "text": b'"hello"',
    "nothing": b"",
    "choices of numbers": b'{"choices": [1, 2]}',
    "no message": b'{"choices": [{"index": 0}]}',
    "deep": b"[" * 100_000,
}
"""Bodies that are no chat completion, each sent with 200."""

CALL = {"id": "1", "type": "function", "function": {"name": "say", "arguments": '{"verdict": "YES"}'}}
INSTEAD = {
    "refusal": {"content": None, "refusal": "I cannot judge this. YES"},
    "tool call": {"content": None, "tool_calls": [CALL]},
    "only reasoning": {"content": "", "reasoning_content": "It is right: YES"},
    "parts": {"content": [{"type": "text", "text": "YES"}]},
    "object": {"content": {"score": 1}},
    "true": {"content": True},
    "spoken": {"content": "x", "refusal": None, "tool_calls": None},
}
"""Messages that hold something else beside or instead of a text."""


class Server(ThreadingHTTPServer):
    """A small chat endpoint that does what the last message says."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.broken_once = False
        self.retry_after = "1"
        self.says: dict[str, str] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            self.answer(body["messages"][-1]["content"])
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def answer(self, text: str) -> None:
        if text == "slow":
            time.sleep(1.5)
        if text.startswith("wait"):
            time.sleep(0.1)
        if text in ("once", "busy") and not self.server.broken_once:
            self.server.broken_once = True
            if text == "busy":
                return self.send(429, b'{"error": {"message": "too many"}}', {"Retry-After": self.server.retry_after})
            return self.send(500, b'{"error": {"message": "try again"}}')
        if text.isdigit() and len(text) == 3:
            return self.send(int(text), b'{"error": {"message": "no"}}')
        whole = json.dumps(self.reply(text)).encode()
        if text == "drip":
            return self.drip(whole)
        if text == "halved":
            return self.send(200, whole[: len(whole) // 2], {"Content-Length": str(len(whole))})
        if text == "reset":
            return self.reset(whole)
        if text == "endless":
            return self.send(200, b" " * (9 * 2**20) + whole)
        self.send(200, RAW.get(text, whole))

    def reply(self, text: str) -> dict:
        """A chat completion, sound or subtly not."""
        content = {"empty": "", "blank": " \n", "null": None, "number": 7, **self.server.says}.get(text, f"echo {text}")
        ends = {"cut": "length", "filtered": "content_filter"}
        choice = {"index": 0, "finish_reason": ends.get(text, "stop")}
        choice["message"] = {"role": "assistant", "content": content} | INSTEAD.get(text, {})
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return reply if text == "no usage" else {**reply, "usage": {"prompt_tokens": "?"} if text == "odd" else usage}

    def reset(self, body: bytes) -> None:
        """Half of a reply, then the connection is torn down without a goodbye."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def drip(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        said = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = said["Content-Length"] != str(len(body))
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up waiting: that is the case under test

    def log_message(self, *args: object) -> None:
        return None


def judge(server: Server, **options) -> EndpointJudge:
    """A judge that asks this server, once."""
    return EndpointJudge("m", base_url=server.url, api_key_env=None, **{"timeout": 5.0, "retries": 0, **options})

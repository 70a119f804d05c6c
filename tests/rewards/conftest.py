"""What several tests of rewards share: a chat server over a real socket."""

import threading
from collections.abc import Iterator

import pytest

from tests.rewards.chat_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()

"""Serve a reward over HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from steelyard.cli.app import app, complain

LOCAL = ("127.0.0.1", "localhost", "::1")


@app.command()
def serve(
    reward: Annotated[str, typer.Argument(help="my_rewards.py:NAME or package.module:NAME. Its code is run.")],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one and prints it.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge, a batch at a time each.")] = 1,
    queue: Annotated[int, typer.Option(min=0, help="Batches that may wait; one more is refused with 429.")] = 32,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds from a request's arrival to its answer.")] = 120.0,
    max_body: Annotated[float, typer.Option(min=0.001, help="Largest body in MiB.")] = 16.0,
    token_env: Annotated[
        str | None, typer.Option(help="The environment variable that holds the token that clients must show.")
    ] = None,
    label: Annotated[str, typer.Option(help="The reward's column that OpenRLHF's labels are.")] = "answer",
    end: Annotated[
        list[str] | None,
        typer.Option(help="A text to cut off the end of OpenRLHF's completions, as `<|im_end|>`; may be repeated."),
    ] = None,
) -> None:
    """Serve a reward over HTTP: batches at `/rewards`, OpenRLHF's protocol at `/get_reward`, `/health`, `/metrics`.

    Example: `steelyard serve steelyard.rewards:math_correct --port 8000 --workers 2`

    SIGTERM and Ctrl-C let the requests in flight finish.
    """
    from steelyard.engines.batches import OpenRLHF
    from steelyard.engines.judging import Task
    from steelyard.engines.server import Limits, listen
    from steelyard.engines.server import serve as run
    from steelyard.types import SteelyardError

    token = os.environ.get(token_env, "") if token_env else None
    if token == "":
        raise SteelyardError(f"the environment variable {token_env!r} holds no token; set it, or leave --token-env out")
    limits = Limits(workers=workers, queue=queue, body=int(max_body * 2**20), seconds=timeout, token=token)
    listening = listen(host, port)
    if token is None and host not in LOCAL:
        complain(f"warning: everybody who reaches {host} can use this server; --token-env asks for a token")
    typer.echo(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}")
    run(Task(reward, OpenRLHF(label, tuple(end or ()))), limits, listening)

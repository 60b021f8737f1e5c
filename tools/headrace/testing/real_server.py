"""A real server process on a free port, for tests of programs that use NATS.

with headrace.testing.server(jetstream=True) as running:
    client = await nats.connect(running.url)
"""

from collections.abc import Generator
from contextlib import contextmanager

from headrace.tools.launch import RunningServer, Settings, headrace_program, start


@contextmanager
def server(
    *, jetstream: bool = False, store_dir: str = "", config: str = "", port: int = 0, engine: str = ""
) -> Generator[RunningServer]:
    """Run a server while the block runs; `url` says where. Raises LaunchError with the server's last words.

    Without `store_dir` the store vanishes with the block. `config` is more of a configuration file, as it stands
    there. `kill` and `start` of what is given play a crash and a restart on the same port and store.
    """
    settings = Settings(jetstream=jetstream, store_dir=store_dir, config=config, port=port)
    with start(headrace_program(engine), settings) as running:
        yield running

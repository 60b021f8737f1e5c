"""Every load of the benchmark runs on a real server, and its counts agree."""

import pytest

from headrace.tools.bench.loads import Deliver, Load, Publish, Pull, Push, Request, StreamPublish
from headrace.tools.bench.wire import BenchError, Wire
from headrace.tools.launch import Settings, start
from headrace.tools.oracle import Servers

SECONDS = 0.1
LOADS: tuple[Load, ...] = (
    Publish(size=16),
    Publish(size=128, subjects=100),
    Deliver(size=128),
    Deliver(size=128, subjects=100, wildcards=2000),
    Deliver(size=16, headers=b"NATS/1.0\r\na: b\r\n\r\n"),
    Deliver(size=128, fanout=2),
    Deliver(size=128, members=3),
    Deliver(size=128, pairs=2),
    Request(in_flight=1),
    Request(in_flight=50),
    StreamPublish(window=1),
    StreamPublish(window=64, subjects=10),
    StreamPublish(window=1, clients=4),
    Pull(batch=500),
    Push(),
)


@pytest.mark.parametrize("load", LOADS, ids=repr)
def test_a_load_ends_with_counts_that_agree(load: Load, servers: Servers) -> None:
    with start(servers.program, Settings(jetstream=load.jetstream, monitoring=True)) as server:
        sample = load.run(server, SECONDS)
    assert sample.count > 0
    assert sample.elapsed_s > 0


def test_a_stream_that_refuses_voids_the_measurement(servers: Servers) -> None:
    with start(servers.program, Settings(jetstream=True)) as server:
        with Wire(server.port) as wire:
            config = {"name": "OTHER", "subjects": ["bench"], "max_msgs": 1, "discard": "new"}
            wire.request("$JS.API.STREAM.CREATE.OTHER", config)
        with pytest.raises(BenchError, match="overlap"):
            StreamPublish(window=1).run(server, SECONDS)

"""Fixtures of the consumer tests."""

import pytest

from unit.jetstream_consumers.consumer_world import ConsumerWorld


@pytest.fixture
def world() -> ConsumerWorld:
    return ConsumerWorld()

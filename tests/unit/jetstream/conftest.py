"""Fixtures of the stream tests."""

import pytest

from unit.jetstream.world import World


@pytest.fixture
def world() -> World:
    return World()

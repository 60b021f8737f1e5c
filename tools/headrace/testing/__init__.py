"""Servers for tests: a whole one in virtual time, and real processes on free ports."""

from headrace.testing.client import NoAnswer, Refused, VirtualClient, VirtualSubscription
from headrace.testing.real_server import server
from headrace.testing.virtual_disk import VirtualDisk
from headrace.testing.virtual_server import StoreMaker, VirtualServer, in_memory
from headrace.tools.frames import Frame

__all__ = [
    "Frame",
    "NoAnswer",
    "Refused",
    "StoreMaker",
    "VirtualClient",
    "VirtualDisk",
    "VirtualServer",
    "VirtualSubscription",
    "in_memory",
    "server",
]

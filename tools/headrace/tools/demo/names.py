"""What the demo's processes agree on: names on the wire, and the lines that they report with."""

import json
import sys
from typing import Any, Final

STREAM: Final = "ORDERS"
SUBJECT: Final = "orders.placed"
DURABLE: Final = "billing"
CONNECT_WAIT_S: Final = 0.05
"""How long the processes wait between attempts to reach a server that was killed."""


def report(kind: str, orders: list[int]) -> None:
    """Tell the parent process what happened to some orders, as one line on standard output."""
    sys.stdout.write(json.dumps({kind: orders}) + "\n")
    sys.stdout.flush()


def parse_report(line: bytes) -> tuple[str, list[int]]:
    """Read such a line back."""
    fields: dict[str, Any] = json.loads(line)
    ((kind, orders),) = fields.items()
    return kind, orders

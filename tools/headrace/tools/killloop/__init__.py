"""The kill loop: a server is killed again and again under load, and every promise it made is held against it."""

from headrace.tools.killloop.campaign import Result, run_campaign
from headrace.tools.killloop.ledger import Ledger, Violation

__all__ = ["Ledger", "Result", "Violation", "run_campaign"]

"""`headrace bench`: this server and the reference side by side, under a load that costs next to nothing itself."""

from headrace.tools.bench.measure import Comparison, Sample
from headrace.tools.bench.rows import ROWS, Row
from headrace.tools.bench.runner import Contest, run_row

__all__ = ["ROWS", "Comparison", "Contest", "Row", "Sample", "run_row"]

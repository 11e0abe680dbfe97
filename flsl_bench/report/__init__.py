"""One static HTML page of everything measured, readable without a server, a network or a script."""

from flsl_bench.report.page import write_report

__all__ = ["write_report"]

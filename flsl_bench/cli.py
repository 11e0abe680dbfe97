"""The command `flsl-bench`: parses, calls, prints. This module is the only place that exits."""

import sys
from collections.abc import Callable

from flsl_bench.errors import FlslBenchError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's `main` and exit with its code; an error that a user can mend is one line and code 2."""
    try:
        sys.exit(main() or 0)
    except FlslBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

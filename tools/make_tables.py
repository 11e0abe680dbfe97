#!/usr/bin/env python
"""Write the result tables, the papers' figures and what was measured, as markdown, CSV and LaTeX.

Each measured model gets a page of its own in models/.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flsl_bench.cli import run_tool
from flsl_bench.paths import RESULTS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results-dir", type=Path, help="folder of the records (default: results/ of the checkout)")
    parser.add_argument("--out", type=Path, help="folder for the tables (default: tables/ in the results folder)")
    return parser.parse_args(argv)


def main() -> int:
    arguments = parse_args()
    from flsl_bench.results.reported import load_reported
    from flsl_bench.results.store import Store
    from flsl_bench.results.tables import render_tables, stale_files, write_tables

    results = arguments.results_dir or RESULTS
    out = arguments.out or results / "tables"
    texts = render_tables(load_reported(), Store(results).records())
    written = write_tables(texts, out)
    for path in written:
        print(path)
    if not written:
        print(f"{out}: up to date")
    for path in stale_files(texts, out):
        print(f"{path}: no record or figure makes this table any more; delete it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_tool(main)

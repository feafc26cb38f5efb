"""Sharp or smooth: which roofline says published measurements better.

Fits the engines of a table with the longer of read and arithmetic (sharp, what planner uses),
with a smooth maximum, (read^p + arithmetic^p)^(1/p), and with their sum (p = 1):

    python benchmarks/roofline.py ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.calibration import FITS
from planner.core.cost import compute
from planner.core.engine import Engine, MeasuredAs
from planner.core.metrics import percentile
from planner.files.catalogue import Catalogue
from planner.files.measurements import read_measurements
from planner.fit.speeds import Row, fit_speeds

POWERS = (None, 8.0, 4.0, 2.0, 1.0)
"""Sharpness of the roofline; None for a sharp one."""


def rows(data: Path, table: str) -> list[Row]:
    """The measurements of a table with their engines."""
    known = Catalogue()
    found: list[Row] = []
    for name in FITS[table][2]:
        engine, _ = known.get("engines", name)
        if not isinstance(engine, Engine):
            raise TypeError(f"{name} is no engine")
        wanted = engine.measured_as or MeasuredAs(backend=engine.name)
        read = read_measurements(data / table, known, wanted, skip_unknown=True)
        found += [(engine, row) for row in read.rows]
    return found


def main() -> None:
    """Fits under each roofline and prints what is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="folder with the tables")
    options = parser.parse_args()
    sharp = compute.beyond_s
    print(f"{'table':<26} {'roofline':<10} {'median':>7} {'p90':>7}")
    for table in FITS:
        measured = rows(options.data, table)
        for power in POWERS:
            compute.beyond_s = sharp if power is None else _smooth(power)
            errors = sorted(abs(error) for error in fit_speeds(measured, fresh=True).errors)
            shares = f"{percentile(errors, 50):>7.1%} {percentile(errors, 90):>7.1%}"
            print(f"{table:<26} {f'p = {power:g}' if power else 'sharp':<10} {shares}", flush=True)
    compute.beyond_s = sharp


def _smooth(power: float):  # type: ignore[no-untyped-def]
    def beyond_s(read_s: float, compute_s: float) -> float:
        return float((read_s**power + compute_s**power) ** (1 / power)) - read_s

    return beyond_s


if __name__ == "__main__":
    main()

"""How the speed of this host wanders: its spread, and how soon it forgets what it was.

Times a loop in Python for a while, with nothing else at work, and prints the standard deviation of
its means over a second and their correlation with those some seconds later:

    python -m benchmarks.wander --seconds 120
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

LAGS_S = (1, 2, 3, 5, 8, 12, 20)
_TURNS = 20_000


def loop_s() -> float:
    """What the loop takes now."""
    began_s = time.perf_counter()
    total = 0
    for turn in range(_TURNS):
        total += turn
    return time.perf_counter() - began_s


def seconds(count: int) -> list[float]:
    """Logarithm of the mean time of the loop, second by second."""
    found = []
    for _ in range(count):
        until_s, taken_s = time.perf_counter() + 1.0, []
        while time.perf_counter() < until_s:
            taken_s.append(loop_s())
        found.append(math.log(statistics.fmean(taken_s)))
    return found


def correlation(values: list[float], lag: int) -> float:
    """Of values with those ``lag`` places later."""
    mean, variance = statistics.fmean(values), statistics.pvariance(values)
    pairs = zip(values, values[lag:], strict=False)
    return statistics.fmean((a - mean) * (b - mean) for a, b in pairs) / variance


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=120)
    values = seconds(parser.parse_args().seconds)
    print(f"standard deviation of means over 1 s: {statistics.pstdev(values):.1%}")
    for lag in LAGS_S:
        if lag < len(values) // 2:
            print(f"correlation after {lag:>2} s: {correlation(values, lag):+.2f}")


if __name__ == "__main__":
    main()

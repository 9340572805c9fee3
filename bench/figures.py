"""How figures are printed: one a line, its name first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def show(name: str, text: str) -> None:
    """One figure."""
    print(f"  {name:<30}{text}", flush=True)


def quantiles(values: Iterable[float] | Sequence[float], unit: str = "ms") -> str:
    """p50, p99 and the largest."""
    found = np.array(list(values))
    p50, p99 = np.percentile(found, [50, 99])
    return f"p50 {p50:.1f} {unit}, p99 {p99:.1f} {unit}, at most {found.max():.1f} {unit}"


def ratio(ours: Sequence[float], floor: Sequence[float]) -> str:
    """Of the p50s and of the p99s."""
    found = [np.percentile(ours, at) / np.percentile(floor, at) for at in (50, 99)]
    return f"p50 {found[0]:.1f}, p99 {found[1]:.1f}"

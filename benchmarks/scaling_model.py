"""An iteration's cost against ranks, measured and read out: ``python benchmarks/scaling_model.py --help``.

    seconds(W) = fixed + divided / W  +  sums (alpha log2 W + beta bytes)    W ranks, 1 < W

``fixed`` is what each rank does whatever its share (a call for every minibatch and every step), ``divided``
what the ranks share; a sum is an Allreduce by a tree of log2 W stages (R. Thakur et al., Optimization of
Collective Communication Operations in MPICH, 2005). Computing is measured by each rank's CPU time, so ranks
may share cores; a sum by the clock, so where there are fewer cores than ranks it holds the waiting for a core
as well. Such sums are fitted apart.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import jobs as measure
from benchmarks.report import markdown, origin, save, script, stamp
from ppo_and_friends.errors import UsageError

READ_AT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = (256, 40_000, 400_000, 4_000_000)
"""Bytes of the buffers that are summed, besides the launchers' own."""

GROWN_FROM = 8
"""Ranks whose share of the work each rank keeps where the work grows with the ranks."""

Measured = list[dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """Measure an iteration's computing and the ranks' sums, fit a model, and read it out to 1,024 ranks."""

    environments: tuple[str, ...] = ("CartPole", "BipedalWalker", "Humanoid")
    """Launchers."""
    ranks: tuple[int, ...] = (1, 2, 4, 8)
    """To measure with."""
    seconds: float = 10.0
    """Of training for each launcher and number of ranks."""
    measured: tuple[Path, ...] = ()
    """Read out these results of measure_scaling.py, one a number of ranks, instead of measuring."""
    output: Path = Path("results/speed/scaling_model.json")
    """Where measurements and readings go; tables go beside it."""


def sum_seconds(alpha: float, beta: float, ranks: int, size: float) -> float:
    """Of a sum of ``size`` bytes over ``ranks``; 0 for one rank."""
    return alpha * math.log2(ranks) + beta * size if ranks > 1 else 0.0


@dataclass(frozen=True)
class Cost:
    """The model of a launcher's iteration; its timesteps are the same however many ranks there are."""

    fixed: float
    """Seconds that every rank computes."""
    divided: float
    """Seconds of computing that the ranks share."""
    alpha: float
    """Seconds of a stage of a sum."""
    beta: float
    """Seconds of a byte of a sum."""
    sums: float = 1.0
    """Allreduces an iteration."""
    size: float = 4.0
    """Bytes of each."""

    def computing(self, ranks: int) -> float:
        """Seconds that a rank computes."""
        return self.fixed + self.divided / ranks

    def communication(self, ranks: int) -> float:
        """Seconds in sums."""
        return self.sums * sum_seconds(self.alpha, self.beta, ranks, self.size)

    def share(self, ranks: int, worked: int | None = None) -> float:
        """Of the time, what goes into sums, if a rank has the work of one of ``worked``."""
        sums = self.communication(ranks)
        return sums / (sums + self.computing(worked or ranks))

    def dominated_from(self) -> int | None:
        """The least power of two of ranks at which sums take more time than computing; None: never."""
        powers = (2**power for power in range(1, 21))
        return next((ranks for ranks in powers if self.share(ranks) > 0.5), None)


def fit(rows: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[float, float]:
    """x, y >= 0 for which [n, 2] ``rows`` @ (x, y) is nearest to ``values``, relative to them."""
    scaled, ones = np.array(rows, dtype=np.float64) / np.array(values)[:, None], np.ones(len(values))
    scale = scaled.max(axis=0)  # bytes would dwarf stages
    scaled = scaled / scale
    best = np.linalg.lstsq(scaled, ones, rcond=None)[0]
    if (best < 0).any():  # then the best of what is allowed is on one of the two edges
        edges = np.diag(scaled.sum(axis=0) / (scaled**2).sum(axis=0))
        best = min(edges, key=lambda edge: float(((scaled @ edge - ones) ** 2).sum()))
    x, y = best / scale
    return float(x), float(y)


def sums_of(measured: Measured) -> list[tuple[int, int, float]]:
    """(ranks, bytes, seconds) of all sums over more than one rank."""
    several = [one for one in measured if one["ranks"] > 1]
    return [(one["ranks"], int(size), took) for one in several for size, took in one["allreduce"].items()]


def networks(measured: Measured, cores: int) -> dict[str, tuple[float, float]]:
    """alpha and beta, with a core for each rank and where ranks share cores."""
    sums, found = sums_of(measured), {}
    for name, sharing in (("a core each", False), ("sharing cores", True)):
        rows = [row for row in sums if (row[0] > cores) == sharing]
        if rows:
            stages = [(math.log2(ranks), size) for ranks, size, _ in rows]
            found[name] = fit(stages, [seconds for *_, seconds in rows])
    if not found:
        raise UsageError("--ranks: measure with two ranks at least.")
    return found


def most(measured: Measured) -> dict[str, Any]:
    """The iterations with the most ranks: a rank alone sums no gradients."""
    return dict(max(measured, key=lambda one: int(one["ranks"]))["iterations"])


def evaluate(measured: Measured, cores: int) -> dict[str, Any]:
    """Fit and read out: rates and shares of sums for the launcher as it is, and grown with the ranks."""
    models: dict[str, Any] = {}
    for network, (alpha, beta) in networks(measured, cores).items():
        launchers = {}
        for name, known in most(measured).items():
            seconds = [one["iterations"][name]["cpu_seconds"] for one in measured]
            compute = fit([(1.0, 1.0 / one["ranks"]) for one in measured], seconds)
            cost = Cost(*compute, alpha, beta, known["sums"], known["sum_bytes"] / known["sums"])
            read: dict[str, list[dict[str, float]]] = {"read": [], "grown": []}
            for ranks in READ_AT:
                for kind, worked in (("read", ranks), ("grown", GROWN_FROM)):
                    took = cost.computing(worked) + cost.communication(ranks)
                    rate = known["timesteps"] * ranks / worked / took
                    read[kind].append({"ranks": ranks, "rate": rate, "share": cost.share(ranks, worked)})
            launchers[name] = asdict(cost) | {"dominated_from": cost.dominated_from()} | read
        models[network] = {"network": {"alpha": alpha, "beta": beta}, "launchers": launchers}
    return {"measured": measured, "models": models}


def fit_table(results: dict[str, Any]) -> str:
    """What was fitted, for each launcher, and how far each measurement is from it."""
    measured = results["measured"]
    head = ["launcher", "parameters", "environments", "timesteps", "sums", "fixed ms", "divided ms"]
    head += [f"CPU ms, {one['ranks']} rank{'s' * (one['ranks'] > 1)} (model)" for one in measured]
    rows = []
    for name, model in next(iter(results["models"].values()))["launchers"].items():
        known, (fixed, divided) = most(measured)[name], (1e3 * model[part] for part in ("fixed", "divided"))
        cells = [name, *(f"{known[key]:,}" for key in ("parameters", "num_envs", "timesteps"))]
        cells += [f"{known['sums']:.0f}", f"{fixed:.1f}", f"{divided:.1f}"]
        for one in measured:
            took = 1e3 * one["iterations"][name]["cpu_seconds"]
            cells.append(f"{took:.1f} ({fixed + divided / one['ranks']:.1f})")
        rows.append(cells)
    return markdown(head, rows)


def sums_table(results: dict[str, Any]) -> str:
    """Microseconds of a sum, measured and by each network."""
    models = {name: model["network"] for name, model in results["models"].items()}
    rows = []
    for ranks, size, seconds in sums_of(results["measured"]):
        fitted = [sum_seconds(one["alpha"], one["beta"], ranks, size) for one in models.values()]
        rows.append([str(ranks), f"{size:,}", *(f"{1e6 * value:,.0f}" for value in (seconds, *fitted))])
    return markdown(["ranks", "bytes", "measured us", *(f"{name}, us" for name in models)], rows, text=())


def reading_table(model: dict[str, Any]) -> str:
    """Timesteps a second and the share of sums, by ranks; and where sums begin to dominate."""
    rows = []
    for name, launcher in model["launchers"].items():
        for kind, key in (("as it is", "read"), ("grown", "grown")):
            cells = [f"{one['rate']:,.0f} ({100 * one['share']:.0f}%)" for one in launcher[key]]
            until = f"{launcher['dominated_from']:,}" if launcher["dominated_from"] else "-"
            rows.append([f"{name}, {kind}", *cells, until if key == "read" else ""])
    return markdown(["launcher", *(f"{ranks:,}" for ranks in READ_AT), "sums dominate from"], rows)


def report(results: dict[str, Any]) -> str:
    """Markdown."""
    about = f"{origin(results)}, load average {results['load']:.1f} before."
    parts = ["# Cost of an iteration against ranks", about, fit_table(results), sums_table(results)]
    for name, model in results["models"].items():
        alpha, beta = 1e6 * model["network"]["alpha"], 1e9 * model["network"]["beta"]
        parts.append(
            f"Timesteps a second, and the share of the time in sums, by ranks. Network: {name}, alpha "
            f"{alpha:.3g} us a stage, beta {beta:.3g} ns a byte. Grown: environments, rollout and minibatch "
            f"grow with the ranks, from those of {GROWN_FROM}."
        )
        parts.append(reading_table(model))
    return "\n\n".join(parts) + "\n"


@script(Options)
def main(options: Options) -> int:
    """Measure, fit and read out."""
    about = stamp() | {"seconds": options.seconds}
    if options.measured:
        measured = [json.loads(path.read_bytes()) for path in options.measured]
    else:
        spec = {"environments": options.environments, "seconds": options.seconds, "sizes": SIZES}
        measured = [measure.on_ranks("measure_scaling.py", spec, ranks) for ranks in options.ranks]
    results = about | evaluate(measured, about["cores"])
    save(options.output, results, report(results))
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

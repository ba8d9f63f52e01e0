"""An iteration's cost against ranks, measured and read out: ``python benchmarks/scaling_model.py --help``.

Computing is measured by each rank's CPU time, so ranks may share cores; a sum by the clock, so where there
are fewer cores than ranks it holds the waiting for a core as well. Such sums are fitted apart.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measurements as measure
from benchmarks.cost_model import Cost, Network, fit_compute, fit_network
from benchmarks.runs import source_state
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.errors import PPOError, UsageError

READ_AT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = (256, 40_000, 400_000, 4_000_000)
"""Bytes of the buffers that are summed, besides the launchers' own."""

GROWN_FROM = 8
"""Ranks whose share of the work each rank keeps where the work grows with the ranks."""

Results = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Measure an iteration's computing and the ranks' sums, fit a model, and read it out to 1,024 ranks."""

    environments: tuple[str, ...] = ("CartPole", "BipedalWalker", "Humanoid")
    """Launchers."""

    ranks: tuple[int, ...] = (1, 2, 4, 8)
    """To measure with."""

    seconds: float = 10.0
    """Of training for each launcher and number of ranks."""

    alpha: float | None = None
    """Seconds a stage of a sum, of another network than this machine's. With --beta."""

    beta: float | None = None
    """Seconds a byte of a sum, of another network."""

    measured: Path | None = None
    """A file that this program wrote: read its measurements out again, without measuring."""

    output: Path = Path("results/speed/scaling_model.json")
    """Where measurements and readings go; tables go beside it."""


def measure_all(options: Options) -> list[dict[str, Any]]:
    """The measurements, a job for each number of ranks.

    Raises:
        MeasurementError: One failed.
    """
    done = []
    for ranks in options.ranks:
        spec = {"environments": options.environments, "seconds": options.seconds, "sizes": SIZES}
        done.append(measure.on_ranks("measure_scaling.py", spec, ranks))
        print(f"{ranks} ranks: measured", flush=True)
    return done


def sums_of(measured: Iterable[dict[str, Any]]) -> list[tuple[int, int, float]]:
    """(ranks, bytes, seconds) of all sums over more than one rank."""
    return [
        (one["ranks"], int(size), seconds)
        for one in measured
        if one["ranks"] > 1
        for size, seconds in one["allreduce"].items()
    ]


def networks(measured: list[dict[str, Any]], options: Options, cores: int) -> dict[str, Network]:
    """Those to read out for: a core for each rank, ranks that share cores, or the one asked for.

    Raises:
        UsageError: Nothing was measured with more than a rank.
    """
    if options.alpha is not None and options.beta is not None:
        return {"given": Network(options.alpha, options.beta)}
    sums = sums_of(measured)
    if not sums:
        raise UsageError("--ranks: measure with two ranks at least, or give --alpha and --beta.")
    kinds = {
        "a core each": [one for one in sums if one[0] <= cores],
        "sharing cores": [one for one in sums if one[0] > cores],
    }
    return {name: fit_network(some) for name, some in kinds.items() if some}


def _ranks(measured: dict[str, Any]) -> int:
    return int(measured["ranks"])


def costs(measured: list[dict[str, Any]], network: Network) -> dict[str, Cost]:
    """The model of every launcher."""
    result = {}
    # A rank alone sums no gradients; the number of minibatches is the same from two ranks on.
    for name, known in max(measured, key=_ranks)["iterations"].items():
        computed = [(one["ranks"], one["iterations"][name]["cpu_seconds"]) for one in measured]
        size = known["sum_bytes"] / known["sums"]
        result[name] = Cost(fit_compute(computed), network, known["sums"], size)
    return result


def fit_table(results: Results) -> str:
    """What was fitted, for each launcher, and how far each measurement is from it."""
    measured = results["measured"]
    head = ["launcher", "parameters", "environments", "timesteps", "sums", "fixed ms", "divided ms"]
    head += [f"CPU ms, {one['ranks']} rank{'s' * (one['ranks'] > 1)} (model)" for one in measured]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    first = next(iter(results["models"].values()))
    for name, model in first["launchers"].items():
        known, compute = max(measured, key=_ranks)["iterations"][name], model["compute"]
        cells = [name, *(f"{known[key]:,}" for key in ("parameters", "num_envs", "timesteps"))]
        cells += [f"{known['sums']:.0f}", f"{1e3 * compute['fixed']:.1f}", f"{1e3 * compute['divided']:.1f}"]
        for one in measured:
            fitted = compute["fixed"] + compute["divided"] / one["ranks"]
            cells.append(f"{1e3 * one['iterations'][name]['cpu_seconds']:.1f} ({1e3 * fitted:.1f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sums_table(results: Results) -> str:
    """Microseconds of a sum, measured and by each network."""
    fitted = {name: Network(**model["network"]) for name, model in results["models"].items()}
    lines = ["| ranks | bytes | measured us | " + " | ".join(f"{name}, us" for name in fitted) + " |"]
    lines.append("|---:|---:|---:|" + "---:|" * len(fitted))
    for ranks, size, seconds in sums_of(results["measured"]):
        cells = [f"{1e6 * network.seconds(ranks, size):,.0f}" for network in fitted.values()]
        lines.append(f"| {ranks} | {size:,} | {1e6 * seconds:,.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reading_table(model: dict[str, Any]) -> str:
    """Timesteps a second and the share of sums, by ranks; and where sums begin to dominate."""
    head = ["launcher", *(f"{ranks:,}" for ranks in READ_AT), "sums dominate from"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name, launcher in model["launchers"].items():
        for kind, key in (("as it is", "read"), ("grown", "grown")):
            cells = [f"{one['rate']:,.0f} ({100 * one['share']:.0f}%)" for one in launcher[key]]
            until = f"{launcher['dominated_from']:,}" if launcher["dominated_from"] else "-"
            lines.append(f"| {name}, {kind} | " + " | ".join([*cells, until if key == "read" else ""]) + " |")
    return "\n".join(lines)


def read_out(cost: Cost, timesteps: int) -> dict[str, Any]:
    """A launcher's model and what it gives at each number of ranks."""
    plain = [
        {"ranks": ranks, "rate": timesteps / cost.seconds(ranks), "share": cost.share(ranks)}
        for ranks in READ_AT
    ]
    grown = []
    for ranks in READ_AT:
        seconds = cost.compute.seconds(GROWN_FROM) + cost.communication(ranks)
        rate = timesteps * ranks / GROWN_FROM / seconds
        grown.append({"ranks": ranks, "rate": rate, "share": cost.grown(ranks, GROWN_FROM)})
    return asdict(cost) | {"dominated_from": cost.dominated_from(), "read": plain, "grown": grown}


def evaluate(measured: list[dict[str, Any]], options: Options, cores: int) -> Results:
    """Fit and read out."""
    models = {}
    for name, network in networks(measured, options, cores).items():
        launchers = {
            launcher: read_out(cost, measured[0]["iterations"][launcher]["timesteps"])
            for launcher, cost in costs(measured, network).items()
        }
        models[name] = {"network": asdict(network), "launchers": launchers}
    return {"measured": measured, "models": models}


def report(results: Results) -> str:
    """Markdown."""
    commit = (results["source"]["commit"] or "unknown")[:12]
    parts = [
        "# Cost of an iteration against ranks",
        f"Measured at {results['measured_at']} on {results['cores']} cores, commit {commit}, load "
        f"average {results['load']:.1f} before.",
        fit_table(results),
        sums_table(results),
    ]
    for name, model in results["models"].items():
        network = model["network"]
        parts.append(
            f"Timesteps a second, and the share of the time in sums, by ranks. Network: {name}, alpha "
            f"{1e6 * network['alpha']:.3g} us a stage, beta {1e9 * network['beta']:.3g} ns a byte. Grown: "
            f"environments, rollout and minibatch grow with the ranks, from those of {GROWN_FROM}."
        )
        parts.append(reading_table(model))
    return "\n\n".join(parts) + "\n"


def stamp(options: Options, cores: int, load: float) -> Results:
    """When, where and with what it was measured."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": cores,
        "load": load,
        "seconds": options.seconds,
        "source": source_state(),
        "versions": library_versions(),
    }


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Measure, fit and read out; 0, or an error's exit code."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/scaling_model.py")
    cores, load = usable_cores(), os.getloadavg()[0]
    try:
        if (options.alpha is None) != (options.beta is None):
            raise UsageError("--alpha and --beta go together: give both.")
        if options.measured is not None:
            former = json.loads(options.measured.read_bytes())
            results = former | evaluate(former["measured"], options, former["cores"])
        else:
            results = evaluate(measure_all(options), options, cores) | stamp(options, cores, load)
    except OSError as error:
        print(f"--measured: {error}", file=sys.stderr)
        return 2
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    options.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(options.output, (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), report(results).encode())
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

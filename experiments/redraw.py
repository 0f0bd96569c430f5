"""Write again, after a change of their style, the plots that need nothing but the results in docs/results.

    python -m experiments.redraw [--results docs/results] [--plots docs/figures]

The other plots show single trials, which these results do not hold. Run their experiments again for them.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments import clpu, compression
from experiments.audit_plots import plot_figures
from experiments.paper import read_results
from experiments.running import Result

PLOTS: Mapping[str, tuple[str, Callable[[Result, Path], None]]] = {
    "audit": ("audit-figures.png", lambda result, file: plot_figures(result["strategies"], file)),
    "clpu": ("clpu.png", clpu.plot),
    "compression": ("compression.png", compression.plot),
}
"""Experiment -> the file of its plot, and the function that draws it from the results."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results"), help="folder of the results; %(default)s"
    )
    parser.add_argument(
        "--plots", type=Path, default=Path("docs/figures"), help="folder for the plots; %(default)s"
    )
    options = parser.parse_args()
    redraw(read_results(options.results), options.plots)


def redraw(results: Mapping[str, Result], folder: Path) -> None:
    """Write the plot of each experiment that has results."""
    for name, (file, plot) in PLOTS.items():
        if name in results:
            plot(results[name], folder / file)


if __name__ == "__main__":
    main()

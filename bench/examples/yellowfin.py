r"""Show what YellowFin tunes: ``python bench/examples/yellowfin.py --plot yellowfin.png``.

First on noisy quadratics: least squares in 10 directions, one of which is K times as steep as the
others, with residuals of variance 1, so that the squared norm of a row's gradient is its curvature,
as the method assumes. Steps are small, which keeps the parameters where that holds. Theory wants
the larger of two momenta: the critical one of the curvature's range, ``((r - 1) / (r + 1))^2`` with
``r = sqrt(K)``, and the one that is best against noise, ``x^2`` with the x from 0 to 1 that
minimizes ``x^2 D^2 + (1 - x)^4 C`` for the least curvature 1, variance ``C`` of the gradient and
distance ``D`` to the optimum, which are known here.

Then on networks for MNIST and for the synthetic digits, without any tuning: beside each learning
rate and momentum of a 5 x 5 grid, and beside the authors' program with its defaults, whose variance
comes from an average of all gradients and whose learning rate does not fall.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import fastmom as fm
from fastmom.plot.style import new_figure

CONDITIONS = [2.0, 4.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
STEPS, DIRECTIONS, BETA, FACTOR = 3000, 10, 0.995, 0.001
LRS = [0.003, 0.01, 0.03, 0.1, 0.3]
MOMENTA = [0.0, 0.5, 0.9, 0.95, 0.99]
EPOCHS, BATCH, SEEDS = 5, 32, 5


# Quadratics ---------------------------------------------------------------------------------------

def tuned_momentum(condition: float) -> tuple[float, float]:
    """Return the momentum after `STEPS` steps, and the measured range of the curvature."""
    curvature = curvatures(condition)
    rng, p = np.random.default_rng(0), np.zeros(DIRECTIONS)
    optimizer = fm.YellowFin([p], lr=FACTOR, beta=BETA)
    for i in rng.integers(DIRECTIONS, size=STEPS):
        g = np.zeros(DIRECTIONS)
        g[i] = curvature[i] * p[i] + np.sqrt(curvature[i]) * rng.choice([-1, 1])
        optimizer.step([g])
    tuned = optimizer.tuned
    return tuned.momentum, tuned.h_max / tuned.h_min


def curvatures(condition: float) -> Any:
    return np.array([condition, *(DIRECTIONS - 1) * [1.0]])


def critical(condition: float) -> float:
    root = condition ** 0.5
    return ((root - 1) / (root + 1)) ** 2


def against_noise(condition: float) -> float:
    variance = curvatures(condition).mean()
    distance = np.sqrt(curvatures(condition)).mean() / variance
    x = np.linspace(0, 1, 100_001)
    return float(x[np.argmin(x ** 2 * distance ** 2 + (1 - x) ** 4 * variance)] ** 2)


def measure_quadratics() -> list[dict[str, float]]:
    print(f"{'condition':>9} {'measured':>9} {'momentum':>9} {'critical':>9} {'against noise':>14}")
    rows = []
    for condition in CONDITIONS:
        momentum, found = tuned_momentum(condition)
        rows.append({"condition": condition, "found": found, "momentum": momentum,
                     "critical": critical(condition), "against noise": against_noise(condition)})
        print(f"{condition:9,.0f} {found:9,.1f} {momentum:9.3f} {critical(condition):9.3f} "
              f"{against_noise(condition):14.3f}", flush=True)
    return rows


# Networks -----------------------------------------------------------------------------------------

class AsPublished(fm.YellowFin):
    """With ``|average of all gradients|^2`` in place of the products with the velocity; no fall.

    References
    ----------
    See `fastmom.YellowFin`.
    """

    def step(self, grads: Any) -> bool:
        taken = super().step(grads)
        means = self.__dict__.setdefault("_means", [np.zeros_like(g) for g in grads])
        for mean, g in zip(means, grads, strict=True):
            mean += (1 - self.beta) * (g - mean)
        own = dict(zip(fm.optim.yellowfin.NAMES, self._apart[0]["measured"], strict=False))
        own["signal"] = sum(float(np.vdot(m, m)) for m in means) / own["mass"] ** 2
        own["signal_mass"] = own["fall"] = 1.0
        self._apart[0]["measured"][:len(own)] = list(own.values())
        return taken


def accuracy(data: Any, optimizer: fm.Optimizer | str, seed: int = 0) -> float:
    """Return the accuracy on the test data after some epochs."""
    (x, y), (x_test, y_test) = data
    model = fm.nn.Sequential([
        fm.nn.Rescaling(1 / 255, input_shape=x.shape[1:]), fm.nn.Flatten(),
        fm.nn.Dense(128, activation="relu"), fm.nn.Dense(10, activation="softmax")], seed=seed)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    with np.errstate(all="ignore"):         # some of the grid diverge
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        return float(model.evaluate(x_test, y_test, verbose=0)[1])


def measure_networks() -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, data in (("MNIST", fm.data.load_mnist()), ("digits", fm.data.load_digits())):
        grid = [[accuracy(data, fm.SGD(lr=lr, momentum=momentum)) for momentum in MOMENTA]
                for lr in LRS]
        results[name] = {
            "grid": grid,
            "YellowFin": [accuracy(data, "yellowfin", seed) for seed in range(SEEDS)],
            "as published": [accuracy(data, AsPublished(), seed) for seed in range(SEEDS)]}
        print(f"\n{name}, accuracy in % by lr (down) and momentum, {EPOCHS} epochs")
        print(f"{'':8}" + "".join(f"{m:7g}" for m in MOMENTA))
        for lr, row in zip(LRS, grid, strict=True):
            print(f"{lr:8g}" + "".join(f"{100 * a:7.2f}" for a in row))
        print(f"best of the grid {100 * np.max(grid):.2f}")
        for kind in ("YellowFin", "as published"):
            print(f"{kind:12} " + " ".join(f"{100 * a:.2f}" for a in results[name][kind]),
                  flush=True)
    return results


# Figure -------------------------------------------------------------------------------------------

def draw(figure: Any, rows: list[dict[str, float]], networks: dict[str, Any]) -> None:
    left, *right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    x = np.geomspace(CONDITIONS[0], CONDITIONS[-1], 100)
    left.plot(x, [critical(k) for k in x], "--", color="#0072b2",
              label=r"critical: $((\sqrt{\kappa}-1)/(\sqrt{\kappa}+1))^2$")
    left.plot(x, [against_noise(k) for k in x], ":", color="#009e73", label="best against noise")
    left.plot([row["condition"] for row in rows], [row["momentum"] for row in rows], "o",
              color="#d55e00", label="tuned by YellowFin")
    left.set(xscale="log", ylim=(0, 1), xlabel=r"condition number $\kappa$ of a noisy quadratic",
             ylabel="momentum", title="Theory wants the larger of two momenta")
    left.legend(loc="lower right", frameon=False)
    left.grid(alpha=0.3)
    left.spines[["top", "right"]].set_visible(False)
    for axes, (name, found) in zip(right, networks.items(), strict=True):
        draw_grid(axes, name, found)


def draw_grid(axes: Any, name: str, found: dict[str, Any]) -> None:
    grid = 100 * np.array(found["grid"])
    axes.imshow(grid, cmap="viridis", vmin=90, vmax=100, origin="lower", aspect="auto")
    for (i, j), value in np.ndenumerate(grid):
        bold = "bold" if value == grid.max() else "normal"
        axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontweight=bold,
                  color="black" if value > 96 else "white")
    axes.set(xticks=range(len(MOMENTA)), xticklabels=[f"{m:g}" for m in MOMENTA],
             yticks=range(len(LRS)), yticklabels=[f"{lr:g}" for lr in LRS], xlabel="momentum",
             ylabel="learning rate",
             title=f"{name}: best of the grid {grid.max():.1f} %,\n"
                   f"YellowFin {100 * np.mean(found['YellowFin']):.1f} %, "
                   f"as published {100 * np.mean(found['as published']):.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    figure = new_figure(13, 4.4) if args.plot else None    # before the work, lest it be in vain
    rows = measure_quadratics()
    networks = measure_networks()
    if args.json:
        found = {"quadratics": rows, "networks": networks}
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if figure:
        draw(figure, rows, networks)
        figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()

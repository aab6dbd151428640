"""Draws results.png from results.json of the folder given as argument."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from report import size_name


def _bars(axes: Any, title: str, lanes: dict, place: tuple, unit: str) -> None:
    values = {lane: _at(entry, place) for lane, entry in lanes.items() if _at(entry, place)}
    names = list(values)
    medians = [values[name]["median"] for name in names]
    errors = [[values[name]["median"] - values[name]["min"] for name in names],
              [values[name]["max"] - values[name]["median"] for name in names]]
    colours = ["tab:blue" if name.startswith("peerbus") else "tab:grey" if name.startswith("raw") else "tab:orange"
               for name in names]
    axes.barh(names, medians, xerr=errors, color=colours)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.invert_yaxis()


def _at(tree: Any, place: tuple) -> Any:
    for step in place:
        tree = (tree or {}).get(step)
    return tree


def main(folder: Path) -> None:
    summary = json.loads((folder / "results.json").read_text())
    sizes = list(summary["one_way"])
    panels = len(sizes) + bool(summary["round_trip"])
    if not panels:
        return
    figure, grid = plt.subplots((panels + 1) // 2, 2, figsize=(14, 3.2 * ((panels + 1) // 2)), squeeze=False)
    flat = [axes for row in grid for axes in row]
    for size, axes in zip(sizes, flat):
        small = int(size) < 1 << 16
        _bars(axes, f"one way, {size_name(int(size))}", summary["one_way"][size], ("rate" if small else "megabytes",),
              "messages/s" if small else "MB/s")
    if summary["round_trip"]:
        _bars(flat[len(sizes)], "round trip 100 B, p50", summary["round_trip"], ("p50",), "us")
    for axes in flat[panels:]:
        axes.axis("off")
    figure.tight_layout()
    figure.savefig(folder / "results.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

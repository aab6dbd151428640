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

_COLOURS = {"peerbus": "tab:blue", "peer": "tab:orange", "unencrypted": "tab:olive", "limit": "tab:grey"}


def _bars(axes: Any, title: str, lanes: dict, place: tuple, unit: str, kinds: dict) -> None:
    values = {lane: _at(entry, place) for lane, entry in lanes.items() if _at(entry, place)}
    names = list(values)
    medians = [values[name]["median"] for name in names]
    errors = [[values[name]["median"] - values[name]["min"] for name in names],
              [values[name]["max"] - values[name]["median"] for name in names]]
    colours = [_COLOURS[kinds[name]] for name in names]
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
    topics, kinds = summary["topics"], summary["kinds"]
    panels = len(sizes) + bool(summary["round_trip"]) + len(topics)
    if not panels:
        return
    figure, grid = plt.subplots((panels + 1) // 2, 2, figsize=(15, 4.2 * ((panels + 1) // 2)), squeeze=False)
    flat = [axes for row in grid for axes in row]
    for size, axes in zip(sizes, flat):
        small = int(size) < 1 << 16
        _bars(axes, f"one way, {size_name(int(size))}", summary["one_way"][size], ("rate" if small else "megabytes",),
              "messages/s" if small else "MB/s", kinds)
    rest = iter(flat[len(sizes):])
    if summary["round_trip"]:
        _bars(next(rest), "round trip 100 B, p50", summary["round_trip"], ("p50",), "us", kinds)
    for count, lanes in topics.items():
        named = {f"{name} ({values['delivered']['median']:.0%})": values for name, values in lanes.items() if values["rate"]}
        _bars(next(rest), f"topic 1 KiB to {count}, share delivered in brackets", named, ("rate",), "messages/s",
              {label: kinds[name] for label, name in zip(named, (n for n in lanes if lanes[n]["rate"]))})
    for axes in flat[panels:]:
        axes.axis("off")
    figure.tight_layout()
    figure.savefig(folder / "results.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

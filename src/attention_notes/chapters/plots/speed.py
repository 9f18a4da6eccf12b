"""The figures of the page on performance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from attention_notes.chapters.plots import COLOURS, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpec

Interval = Sequence[float]


def ratios(
    panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], goals: Mapping[str, Mapping[str, float]]
) -> Axes:
    """A panel for each kind of work, a line for each model, a dot and an interval for each of its peers.

    A short upright line marks what is aimed at. Returns the axes of the first panel.
    """
    peers = list(dict.fromkeys(peer for rows in panels.values() for row in rows.values() for peer in row))
    looks = dict(zip(peers, zip(COLOURS * 2, "osD^vPX", strict=False), strict=False))
    lines = [len(rows) for rows in panels.values()]
    axes = canvas(len(panels), 1, width=6.6, height=0.32 * sum(lines) + 0.8 * len(panels))
    cast("GridSpec", axes[0].get_gridspec()).set_height_ratios([count + 1 for count in lines])
    for ax, (work, rows) in zip(axes, panels.items(), strict=True):
        for line, (name, row) in enumerate(rows.items()):
            for i, (peer, (median, low, high)) in enumerate(row.items()):
                y, (colour, marker) = line + 0.13 * (i - (len(row) - 1) / 2), looks[peer]
                ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
                ax.plot(median, y, marker, color=colour, markersize=4, label=peer)
            goal = goals[name].get(work)
            if goal:
                ax.plot([goal, goal], [line - 0.42, line + 0.42], color=INK, linewidth=1.4)
        ax.axvline(1, color=INK, linewidth=0.6, linestyle=":")
        ax.set(xscale="log")
        ax.set_title(work, loc="left")  # in the middle it would look like the label of the axis above
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_xticks((0.7, 1, 1.5, 2, 3, 5, 8), ("0.7", "1", "1.5", "2", "3", "5", "8"))
        ax.minorticks_off()
        ax.invert_yaxis()
    ax.set(xlabel="how many times as long the peer takes")
    named: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    axes[0].legend([*named.values()], [*named], labelcolor=INK, frameon=False, fontsize=8, loc="upper right")
    return axes[0]


def growth(forms: Sequence[Mapping[str, Any]]) -> Axes:
    """Two panels over the number of tokens, both logarithmic: seconds and bytes of every form."""
    axes = canvas(2, 1, width=6.6, height=7.4)
    looks = list(zip(COLOURS * 2, "osD^vPXovo", ("-",) * len(COLOURS) + ("--",) * len(COLOURS), strict=False))
    for ax, what, label in zip(axes, ("seconds", "bytes"), ("seconds", "megabytes held at most"), strict=True):
        for form, (colour, marker, style) in zip(forms, looks, strict=False):
            values = [value / 1e6 for value in form[what]] if what == "bytes" else form[what]
            ax.plot(
                form["tokens"],
                values,
                marker=marker,
                markersize=3.5,
                linestyle=style,
                linewidth=1.1,
                color=colour,
                label=form["form"],
            )
        ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
    axes[0].legend(labelcolor=INK, frameon=False, fontsize=7, loc="upper left")
    return axes[0]


def profiles(rows: Mapping[str, Mapping[str, float]]) -> Axes:
    """A bar for each model, cut into what its time goes to."""
    (ax,) = canvas(width=6.6, height=0.42 * len(rows) + 1.3)
    kinds = list(next(iter(rows.values())))
    for line, row in enumerate(rows.values()):
        left = 0.0
        for kind, colour in zip(kinds, (*COLOURS, INK), strict=False):
            ax.barh(line, 100 * row[kind], left=100 * left, color=colour, height=0.7, label="_" * (line > 0) + kind)
            left += row[kind]
    ax.set_yticks(range(len(rows)), list(rows))
    ax.invert_yaxis()
    ax.set(xlabel="per cent of the time", xlim=(0, 100))
    ax.legend(labelcolor=INK, frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax

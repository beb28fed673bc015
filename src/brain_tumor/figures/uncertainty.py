"""Figure of selective prediction: the risk that is left when the least sure are left out."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.figures.palette import colour_networks, name_network


def draw_risk_coverage(curves: Mapping[str, pd.DataFrame], risk: str, of: str, title: str) -> Figure:
    """Curves of risk and coverage, a line for each network; dotted its risk without an order.

    Args:
        curves: network > rows `coverage`, `risk`, as `trace_risk` gives them.
        risk: what the risk is.
        of: what coverage is a fraction of.
    """
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in colour_networks(curves).items():
        curve = curves[name]
        # A few patients are dots; of hundreds of images dots would hide the line.
        marker = "." if len(curve) <= 40 else ""
        axes.plot(curve["coverage"], curve["risk"], marker=marker, color=colour, label=name_network(name))
        # All are covered in the last row.
        axes.axhline(curve["risk"].iloc[-1], color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel=f"coverage: fraction of {of}, the surest first", ylabel=risk, xlim=(0, 1.02), ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(len(curves), 4), frameon=False, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure

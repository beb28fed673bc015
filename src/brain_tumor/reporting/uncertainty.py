"""What the reports of segmentation and classification both say of confidence and errors."""

from collections.abc import Sequence

import pandas as pd

from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.uncertainty import PART, count_least_sure
from brain_tumor.reporting.formatting import with_intervals
from brain_tumor.reporting.page import Words

HEADING = "Confidence and errors"

METRICS = {
    "spearman": "rank correlation with Dice",
    "auroc": "AUROC of being correct",
    "aurc": "AURC",
    "aurc_random": "without an order",
    "aurc_best": "best order",
    "errors_in_fifth": "least sure fifth holds",
}
"""Metrics in tables > in reports."""

CURVES = Words(
    "Risk and coverage: the error that is left among the surest fraction. A line that rises to the right leaves out "
    "the errors first; dotted is the error without an order.",
    "a line for each network: the error among the surest fraction of the test set, from few on the left to all on the "
    "right; the table has the area under each line",
)

ORDER = (
    "AURC is the area under the curve of risk and coverage (Geifman and El-Yaniv 2017), lower is better: it stands "
    "beside that without an order, which is the mean error, and that of the best order. 95 % intervals over patients."
)


def spread_order(uncertainty: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """A row for each network, a column for each metric, with intervals; the errors that a fifth holds in per cent.

    Args:
        uncertainty: rows of the index, `metric`, `value`, `low`, `high`.
    """
    table = with_intervals(uncertainty, "value", list(index), across="metric")
    share = uncertainty[uncertainty["metric"] == "errors_in_fifth"]
    table["errors_in_fifth"] = [write_share(value) for value in share["value"]]
    return table.rename(columns=METRICS)


def tell_least_sure(uncertainty: pd.DataFrame, count: int, of: str, errors: str) -> str:
    """Which part of the errors the least sure fifth holds, with each network.

    Args:
        uncertainty: rows `network`, `metric`, `value`.
        count: number of patients or images, the same for all networks.
        of: what they are.
        errors: what the errors are.
    """
    if count < PART:
        return f"{count} {of} are too few to say what the least sure fifth of them holds."
    held = uncertainty[uncertainty["metric"] == "errors_in_fifth"]
    parts = [f"{name_network(row.network)} {write_share(row.value)}" for row in held.itertuples()]
    least = count_least_sure(count)
    return f"Of {count:,} {of}, the {least:,} that a network is least sure of hold of {errors}: {', '.join(parts)}."


def write_share(value: float) -> str:
    """A fraction in per cent; a dash where there is nothing to share."""
    return "–" if pd.isna(value) else f"{value:.0%}"

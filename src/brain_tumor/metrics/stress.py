"""What corruptions of the test slices cost: mean Dice, and its change of the same patients."""

from collections.abc import Mapping

import pandas as pd

from brain_tumor.metrics.intervals import interval

NONE = "none"
"""The corruption of slices as they are."""


def summarise_stress(scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean Dice under each corruption and its change from NONE.

    Args:
        scores: network > rows `patient`, `corruption`, `severity`, `target`, `dice`.

    Returns: rows `network`, `corruption`, `severity`, `target`, `dice`, `change` with the interval `low` to `high` over
        patients, `patients`.
    """
    rows = []
    keys = ["patient", "target"]
    for name, own_scores in scores.items():
        clean = own_scores[own_scores["corruption"] == NONE].set_index(keys)["dice"]
        change = own_scores["dice"].to_numpy() - clean.loc[pd.MultiIndex.from_frame(own_scores[keys])].to_numpy()
        grouped = own_scores.assign(change=change).groupby(["corruption", "severity", "target"], sort=False)
        for (corruption, severity, target), own in grouped:
            low, high = interval(own["change"].to_numpy())
            rows.append(
                {
                    "network": name,
                    "corruption": corruption,
                    "severity": severity,
                    "target": target,
                    "dice": own["dice"].mean(),
                    "change": own["change"].mean(),
                    "low": low,
                    "high": high,
                    "patients": len(own),
                }
            )
    return pd.DataFrame(rows)

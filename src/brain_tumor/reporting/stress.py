"""What the report of the stress test says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.scans.data_set import WITHOUT
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.segmentation import choose_headline
from brain_tumor.reporting.formatting import tell_interval, with_intervals
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import describe_settings

PACKAGES = ("torch", "monai", "numpy")
"""What corrupts and predicts."""

PROTOCOL = (
    "Prepared slices of patients that the predicting network was not trained on are corrupted, standardised again over "
    "the brain of each slice, and predicted with the same test-time augmentation and postprocessing as without. Mean "
    "volume Dice over patients; a change is of the same patients, with its 95 % interval over them. Corruptions are "
    "simulated: severity 1 is a scan that a radiographer would repeat, and no figure here says how often one occurs."
)
KINDS = (
    "Noise: Rician, deviation 0.5 of the brain's at severity 1. Bias field: a random polynomial of degree 3. Ringing: "
    "the outer part of k-space is lost. Ghosting: every second line of k-space is weaker. Motion: the head moves four "
    "times along the rows while k-space is filled, by up to 8 mm. Thick slices: means over up to 5 mm. Without a "
    "modality: its channel is 0."
)
PICTURED = Words(
    "Mean Dice of the headline target by severity; severity 0 is the scan as it is.",
    "a panel for each corruption, a line or bar for each network",
)


def compose_report(
    table: pd.DataFrame,
    figure: bytes,
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """The page: what costs most, the figure, changes of each target.

    Args:
        table: rows `network`, `corruption`, `severity`, `target`, `dice`, `change`, `low`, `high`, `patients`.
        about: description of the slices.
    """
    headline = choose_headline(about["targets"])
    table = table.assign(network=table["network"].map(name_network))
    own = table[(table["target"] == headline) & (table["severity"] > 0)]
    clean = table[(table["severity"] == 0) & (table["target"] == headline)]
    best = clean.loc[clean["dice"].idxmax()]
    worst = own[own["network"] == best["network"]].sort_values("change").iloc[0]
    answer = (
        f"{best['network']} has a mean Dice of {best['dice']:.3f} for {headline} on {best['patients']} patients; "
        f"the worst corruption is “{_name(worst)}”: {worst['change']:+.3f} "
        f"({tell_interval(worst['low'], worst['high'], '+.3f')})."
    )
    shown = own.assign(corruption=own.apply(_name, axis=1))
    changes = with_intervals(shown, "change", ["corruption"], across="network")
    rest = [
        (f"{name}: change of mean Dice", with_intervals(part, "change", ["corruption"]))
        for name, part in table[table["severity"] > 0]
        .assign(corruption=lambda rows: rows.apply(_name, axis=1))
        .groupby("network", sort=False)
    ]
    sections = [
        Section("Protocol", f"{PROTOCOL} {KINDS}"),
        Section("All targets", "", rest, folded=True),
        describe_settings(settings, PACKAGES),
    ]
    caption = f"Change of mean Dice of {headline}, 95 % interval over patients"
    pictures = [Picture(figure, PICTURED, wide=True)]
    title = "Stress test of segmentation"
    return render_report(title, answer, (caption, changes), sections, simulated=about["simulated"], pictures=pictures)


def _name(row: pd.Series) -> str:
    name = row["corruption"]
    return name if name.startswith(WITHOUT) else f"{name} at severity {row['severity']:g}"

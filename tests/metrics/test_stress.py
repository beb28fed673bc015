import pandas as pd
import pytest

from brain_tumor.metrics.stress import NONE, summarise_stress


def test_changes_are_of_the_same_patients():
    rows = [
        ("a", NONE, 0.0, "WT", 0.9),
        ("b", NONE, 0.0, "WT", 0.5),
        ("b", "noise", 1.0, "WT", 0.4),
        ("a", "noise", 1.0, "WT", 0.6),
    ]
    scores = pd.DataFrame(rows, columns=["patient", "corruption", "severity", "target", "dice"])
    table = summarise_stress({"unet": scores}).set_index("corruption")
    assert table.loc[NONE, ["dice", "change"]].tolist() == pytest.approx([0.7, 0])
    assert table.loc["noise", ["dice", "change"]].tolist() == pytest.approx([0.5, -0.2])
    assert table.loc["noise", "low"] <= -0.2 <= table.loc["noise", "high"]
    assert (table["patients"] == 2).all()

import pandas as pd

from brain_tumor.reporting.segmentation.report import list_scores


def comparison(**scores):
    """Scores of two networks on the test patients, the same for both protocols."""
    rows = [
        (network, protocol, "WT", metric, value)
        for network in ("classic_unet", "improved_unet")
        for protocol in ("volume", "slice")
        for metric, value in scores.items()
    ]
    columns = ["network", "protocol", "target", "metric", "mean"]
    return pd.DataFrame(rows, columns=columns).assign(set="test", parameters=1, low=0.0, high=1.0, patients=6)


def test_a_column_of_ones_is_a_sentence_but_distances_above_1_mm_are_shown():
    section = list_scores(comparison(dice=0.9, accuracy=1.0, hd95_mm=1.9))
    assert section.text.endswith("Not shown, because 1.000 in every row: accuracy.")
    for _, table in section.tables:
        assert "HD95, mm" in table
        assert "accuracy" not in table

import numpy as np
import pandas as pd
import pytest

from brain_tumor.metrics.agreement import compare_measurements


def test_bias_limits_and_correlation_by_hand():
    first = pd.DataFrame({"patient": list("abcdef"), "x": [1.0, 2, 3, 4, 5, 9]})
    second = pd.DataFrame({"patient": list("edcba"), "x": [7.0, 5, 4, 3, 1]})
    (row,) = compare_measurements(first, second, ["x"]).to_dict("records")
    assert (row["patients"], row["first"], row["second"], row["bias"]) == (5, 3, 4, 1)
    spread = 1.96 * np.std([0, 1, 1, 1, 2], ddof=1)
    assert (row["low"], row["high"]) == pytest.approx((1 - spread, 1 + spread))
    assert row["correlation"] == pytest.approx(np.corrcoef([1, 2, 3, 4, 5], [1, 3, 4, 5, 7])[0, 1])


def test_few_patients_have_a_bias_alone():
    first = pd.DataFrame({"patient": list("abc"), "x": [1.0, 2, np.nan], "y": np.nan})
    table = compare_measurements(first, first.assign(x=first["x"] + 1), ["x", "y"]).set_index("feature")
    assert table.loc["x", ["patients", "bias"]].tolist() == [2, 1]
    assert table.loc["x", ["low", "high", "correlation"]].isna().all()
    assert table.loc["y", "patients"] == 0
    assert np.isnan(table.loc["y", "bias"])

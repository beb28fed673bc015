import pandas as pd

from brain_tumor.reporting.classification.tables import score_sources


def rows(network, test_set, **values):
    return pd.DataFrame(
        [
            {"metric": metric, "value": value, "low": value - 0.1, "high": value + 0.05, "images": images}
            for metric, (value, images) in values.items()
        ]
    ).assign(network=network, test_set=test_set)


def test_table_by_source_has_a_column_for_each_network():
    parts = [
        rows(
            name,
            "deduplicated",
            recall_men=(0.8, 5),
            listed_recall_men=(value, 3),
            unlisted_recall_men=(value / 2, 2),
            unlisted_recall_no_tumour=(0.5, 7),
        )
        for name, value in (("vit", 0.9), ("cnn", 0.8))
    ]
    table = score_sources(pd.concat([*parts, rows("cnn", "official", listed_recall_men=(0.1, 9))]), "deduplicated")
    assert list(table.columns) == ["class", "source", "images", "ViT", "CNN"]
    assert table["class"].tolist() == ["men", "men", "no_tumour"]
    assert table["source"].tolist() == ["patient known", "patient not known", "patient not known"]
    assert table["images"].tolist() == [3, 2, 7]
    assert table["ViT"].tolist() == ["0.900 (0.800 to 0.950)", "0.450 (0.350 to 0.500)", "0.500 (0.400 to 0.550)"]


def test_there_is_no_table_by_source_where_there_is_one_source():
    assert not len(score_sources(rows("cnn", "patient", recall_men=(0.8, 5)), "patient"))

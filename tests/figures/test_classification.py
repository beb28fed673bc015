import io

import numpy as np
import pandas as pd
from overlaps import find_overlaps

from brain_tumor.figures import classification as figures
from brain_tumor.figures import classification_data as data_figures


def save(figure):
    assert not find_overlaps(figure)
    figure.savefig(io.BytesIO(), dpi=30)


def test_figures_show_what_is_there(rng):
    log = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "validation_loss": [1.1, 0.7]})
    log = log.assign(validation_accuracy=[0.4, 0.8], validation_macro_f1=[0.3, 0.8], validation_likelihood=[0.3, 0.5])
    save(figures.draw_curves(log, 1, "t"))
    confusion = figures.draw_confusion(
        {"one": np.array([[3, 1], [0, 0]]), "two": np.array([[1, 0], [0, 1]])}, ["a", "b"], "t"
    )
    assert [text.get_text() for text in confusion.axes[0].texts] == ["3", "1", "0", "0"]
    assert (confusion.axes[0].get_xlabel(), confusion.axes[0].get_ylabel()) == ("predicted class", "true class")
    save(confusion)
    save(figures.draw_reliability({"x": pd.DataFrame({"confidence": [0.5], "accuracy": [0.4], "images": [9]})}, "t"))
    save(figures.draw_kernels(rng.normal(size=(20, 3, 3)), "t"))
    look = figures.SaliencyImage("a", np.zeros((8, 8), np.uint8), np.zeros((8, 8)))
    looks = figures.draw_saliency([look] * 4 + [figures.SaliencyImage("b", look.image, np.eye(8))], "t")
    assert [axes.get_title(loc="left") for axes in looks.axes[3:5]] == ["a: the map is 0 everywhere", "b"]
    save(looks)
    save(figures.draw_saliency([], "t"))
    regions = ("outside", "rim", "inside")
    means = pd.DataFrame({f"{r}{end}": [0.3, 0.4] for r in regions for end in ("", "_uniform")}, index=["a", "b"])
    drawn = figures.draw_regions(means, regions, "t")
    assert [bar.get_height() for bar in drawn.axes[0].patches] == [0.3, 0.4] * 3
    save(drawn)


def test_comparison_has_a_point_for_each_network_and_test_set():
    rows = [
        (n, s, m, 0.5, 0.4, 0.6, 10)
        for n in ("a", "b")
        for s in ("official", "deduplicated")
        for m in ("accuracy", "macro_f1")
    ]
    figure = figures.draw_comparison(
        pd.DataFrame(rows, columns=["network", "test_set", "metric", "value", "low", "high", "images"]), "t"
    )
    assert [len(axes.containers) for axes in figure.axes] == [2, 2]
    save(figure)


def test_galleries_survive_having_nothing_to_show():
    save(data_figures.draw_pairs([], "t"))
    pairs = pd.DataFrame({"first": [], "second": [], "distance": [], "similarity": []})
    save(data_figures.draw_similarity(pairs, 0.85, "t"))
    assert data_figures.choose_pairs(pairs, 0.85).empty


def test_pairs_are_chosen_on_both_sides_of_the_threshold(rng):
    pairs = pd.DataFrame({"first": "a", "second": "b", "similarity": rng.random(5000)})
    chosen = data_figures.choose_pairs(pairs, 0.85)["similarity"]
    assert len(chosen) == data_figures.PAIRS
    assert chosen.is_monotonic_increasing
    assert (chosen < 0.85).sum() > 10
    assert (chosen > 0.85).sum() > 8


def test_kernels_are_drawn_where_they_show_more_than_noise(rng):
    shown = [figures.show_structure(rng.normal(size=(4, k, k)), side) for k, side in ((3, 224), (11, 224), (11, 128))]
    assert shown == [False, True, False]


def test_each_fold_has_a_bar_of_each_class_however_many_there_are():
    files = [f"{kind}{number}" for kind in "ab" for number in range(24)]
    index = pd.DataFrame({"file": files, "folder": "Training", "excluded": ""})
    index["class"] = index["file"].str[0]
    splits = index[["file", "class"]].assign(fold=[number % 12 for number in range(48)])
    duplicates = pd.DataFrame({"file": []})
    figure = data_figures.draw_counts(index, duplicates, splits, ("Training", "Testing"), ("a", "b"), "t")
    labels = [container.get_label() for container in figure.axes[1].containers]
    assert labels == [f"fold {number}" for number in range(1, 13)]
    figure.savefig(io.BytesIO(), dpi=30)

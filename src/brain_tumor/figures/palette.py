"""One colour for each network, tissue and region, and one name for each network, in every figure and report.

Most colours are those of Okabe and Ito, which people with any common colour blindness can tell apart. No network of the
project looks like a tissue or a region; networks that a user adds share the colours that are left.
"""

from collections.abc import Iterable

BLUE, VERMILLION, PURPLE, INK = "#0072B2", "#D55E00", "#CC79A7", "#333333"
SKY, GREEN, ORANGE, YELLOW = "#56B4E9", "#009E73", "#E69F00", "#F0E442"
GREY, BROWN, VIOLET = "#7F7F7F", "#8C6D31", "#6A51A3"

TARGETS = (SKY, GREEN, ORANGE, GREY, BROWN, VIOLET, YELLOW)
"""Of the targets in the order declared, tissues before regions: for BraTS NCR, ED, ET, WT, TC."""

ERRORS = {"missed (false negative)": VERMILLION, "false positive": YELLOW, "another tissue": PURPLE}
"""Of pixels where a prediction differs from the reference mask."""

RISKS = (BLUE, ORANGE, VERMILLION)
"""Of low, middle and high risk."""

NETWORKS = {
    "classic_unet": ("ClassicUNet", BLUE),
    "improved_unet": ("ImprovedUNet", VERMILLION),
    "attention_unet": ("AttentionUNet", PURPLE),
    "residual_attention_unet": ("ResidualAttentionUNet", INK),
    "cnn": ("CNN", BLUE),
    "alexnet": ("AlexNet", VERMILLION),
    "vgg16": ("VGG-16", PURPLE),
    "vit": ("ViT", INK),
}
"""Name in the configuration > name in figures and reports, and colour."""

OTHERS = (VIOLET, BROWN, GREY, SKY, GREEN, ORANGE)
"""Of networks and experiments that a user adds, in the order in which they come."""


def name_network(experiment: str) -> str:
    """How a network is called; an experiment that a user named keeps that name."""
    return NETWORKS[experiment][0] if experiment in NETWORKS else experiment


def colour_networks(experiments: Iterable[str]) -> dict[str, str]:
    """Experiment > colour. Names as in the configuration or as shown; the same network has the same colour anywhere."""
    by_shown_name = dict(NETWORKS.values())
    by_name = {name: colour for name, (_, colour) in NETWORKS.items()}
    colours = by_shown_name | by_name
    # Networks come once for each of their scores; the order is that of the first.
    experiments = list(dict.fromkeys(experiments))
    added = [name for name in experiments if name not in colours]
    # Of more experiments than colours, some share one.
    colours |= {name: OTHERS[k % len(OTHERS)] for k, name in enumerate(added)}
    return {name: colours[name] for name in experiments}


def colour_targets(targets: Iterable[str]) -> dict[str, str]:
    """Target > colour. Tissues are the first targets, so that tissues alone have the same colours."""
    return {name: TARGETS[k % len(TARGETS)] for k, name in enumerate(targets)}

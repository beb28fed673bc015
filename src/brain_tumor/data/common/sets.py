"""The sets of a split, and groups that must not be torn apart by one."""

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Int64

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def join_groups(
    count: int,
    first: Int64[np.ndarray, " p"],
    second: Int64[np.ndarray, " p"],
) -> Int64[np.ndarray, " n"]:
    """The number of the group that each of `count` images belongs to, when the pairs given belong together."""
    # A graph of images, in which each pair is an edge: groups are its connected components.
    edges = np.ones(len(first), bool)
    links = scipy.sparse.coo_array((edges, (first, second)), shape=(count, count))
    _, group = scipy.sparse.csgraph.connected_components(links, directed=False)
    return group.astype(np.int64)

"""How the predictions of several models become one: pure functions over the members' outputs.

Classes are joined by their label, never by their position: members may have them in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from berth.tensors.arrays import Array

MEAN, VOTE, WEIGHTED, MAX = COMBINATIONS = ("mean", "vote", "weighted", "max")


def sum_weighted(parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """The weighted mean of equally shaped parts, in FP64 and in the order of the members."""
    total = np.zeros(parts[0].shape)
    for part, weight in zip(parts, weights, strict=True):
        total += weight * part.astype(np.float64)
    return total / sum(weights)


def find_highest(parts: Sequence[Array]) -> Array:
    """The highest of each value, in FP64."""
    highest: Array = np.max([part.astype(np.float64) for part in parts], axis=0)
    return highest


def count_votes(predictions: Sequence[Array]) -> Array:
    """The label that most members predict for each row ([n]); of equally many votes, the earliest member's."""
    votes = np.array([[(one == other) for other in predictions] for one in predictions])
    first = np.argmax(votes.sum(axis=1), axis=0)  # argmax takes the first of equals
    table = np.stack(list(predictions))
    winners: Array = table[first, np.arange(table.shape[1])]
    return winners


def align(probabilities: Array, labels: Sequence[object], wanted: Sequence[object]) -> Array:
    """Columns in the order of the wanted labels."""
    places = [list(labels).index(label) for label in wanted]
    return probabilities if places == list(range(len(places))) else probabilities[:, places]


def combine_values(how: str, parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """Numbers or probabilities of all members as one; the maxima of probabilities are scaled to a sum of 1."""
    if how != MAX:
        return sum_weighted(parts, weights)
    highest = find_highest(parts)
    return highest / highest.sum(axis=1, keepdims=True) if highest.ndim == 2 else highest

"""How wrong predictions are. Plain functions on arrays; missing labels are the caller's to leave out."""
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

Group = TypeVar("Group", bound=Hashable)
Values = Sequence[Any] | np.ndarray         # numbers, or the names of classes


def regression_errors(predictions: Values, labels: Values) -> dict[str, Any]:
    """Predictions and labels (N,) in label units -> {n, mse, mae, rmse, bias, r2, pearson_r}; {} for N = 0.

    bias is the mean of prediction - label. r2 (1 - mse / variance of the labels) is None where the labels do not vary,
    pearson_r where either do not.
    """
    from scipy.stats import pearsonr  # late: scipy.stats takes half a second, and options need not wait for it

    predictions, labels = np.asarray(predictions, float), np.asarray(labels, float)
    if not len(labels):
        return {}
    error = predictions - labels
    mse, variance = float(np.mean(error**2)), float(np.var(labels))
    varied = min(np.ptp(labels), np.ptp(predictions)) > 0           # a variance is not quite 0 by rounding
    return {"n": len(labels), "mse": mse, "mae": float(np.mean(np.abs(error))), "rmse": mse**0.5,
            "bias": float(np.mean(error)), "r2": 1 - mse / variance if variance > 0 else None,
            "pearson_r": float(pearsonr(predictions, labels).statistic) if varied else None}


def classification_errors(predictions: Values, labels: Values, probabilities: Values | None = None,
                          classes: Iterable[str] = ()) -> dict[str, Any]:
    """Predicted and true class names (N,) -> {n, accuracy, balanced_accuracy}; {} for N = 0.

    balanced_accuracy is the mean over the classes that occur of the share of their images that are recognised. With
    probabilities (N, K) of the K `classes` there is `auroc` too.
    """
    predictions, labels = np.asarray(predictions, object), np.asarray(labels, object)
    if not len(labels):
        return {}
    right = predictions == labels
    recalls = [right[labels == name].mean() for name in dict.fromkeys(labels)]
    ranks = {} if probabilities is None else {"auroc": auroc(probabilities, labels, classes)}
    return {"n": len(labels), "accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls)), **ranks}


def auroc(probabilities: Values, labels: Values, classes: Iterable[str]) -> float | None:
    """Area under the ROC curve, (N, K) probabilities and (N,) class names -> the mean over classes of one against the
    rest; None where no class has images on both sides.

    The area is the chance that an image of the class is given a higher probability of it than one that is not, ties
    counting half: the Mann-Whitney statistic over the number of pairs.
    """
    from scipy.stats import mannwhitneyu

    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, object)
    areas = []
    for column, name in enumerate(classes):
        is_it = np.asarray([label == name for label in labels])
        if is_it.any() and not is_it.all():
            positive, negative = probabilities[is_it, column], probabilities[~is_it, column]
            ranked = mannwhitneyu(positive, negative, method="asymptotic").statistic
            areas.append(float(ranked) / (len(positive) * len(negative)))
    return float(np.mean(areas)) if areas else None


def by_group(values: Iterable[Any], groups: Iterable[Group]) -> dict[Group, Any]:
    """Mean of `values` (N,) or (N, K) over each group, in the groups' first order: {group: mean, a number or (K,)}."""
    members: dict[Group, list[Any]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    means = {group: np.mean(v, axis=0) for group, v in members.items()}
    return {group: m if m.ndim else float(m) for group, m in means.items()}

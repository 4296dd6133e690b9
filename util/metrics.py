"""How wrong predictions and images are. Plain functions on arrays; missing labels are the caller's to leave out."""
import numpy as np
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def regression_errors(predictions, labels):
    """Predictions and labels (N,) in label units -> {n, mse, mae, rmse, bias, r2, pearson_r}; {} for N = 0.

    bias is the mean of prediction - label. r2 (1 - mse / variance of the labels) is None where the labels do not vary,
    pearson_r where either do not.
    """
    predictions, labels = np.asarray(predictions, float), np.asarray(labels, float)
    if not len(labels):
        return {}
    error = predictions - labels
    mse, variance = float(np.mean(error**2)), float(np.var(labels))
    varied = variance > 0 and float(np.var(predictions)) > 0
    return {"n": len(labels), "mse": mse, "mae": float(np.mean(np.abs(error))), "rmse": mse**0.5,
            "bias": float(np.mean(error)), "r2": 1 - mse / variance if variance > 0 else None,
            "pearson_r": float(stats.pearsonr(predictions, labels).statistic) if varied else None}


def classification_errors(predictions, labels):
    """Predicted and true class names (N,) -> {n, accuracy, balanced_accuracy}; {} for N = 0.

    balanced_accuracy is the mean over the classes that occur of the share of their images that are recognised.
    """
    predictions, labels = np.asarray(predictions, object), np.asarray(labels, object)
    if not len(labels):
        return {}
    right = predictions == labels
    recalls = [right[labels == name].mean() for name in dict.fromkeys(labels)]
    return {"n": len(labels), "accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls))}


def by_group(values, groups):
    """Mean of `values` over each group, in the groups' first order: {group: mean}."""
    members = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    return {group: float(np.mean(v)) for group, v in members.items()}


def image_errors(image, truth, data_range):
    """Two images (H, W) in the same unit -> {mae, psnr (dB), ssim}; data_range: width of the values' range."""
    mae = float(np.mean(np.abs(image - truth)))
    identical = not np.any(image != truth)
    window = min(7, min(image.shape) - (1 - min(image.shape) % 2))          # SSIM's window is odd and fits the image
    return {"mae": mae, "psnr": float("inf") if identical else
            float(peak_signal_noise_ratio(truth, image, data_range=data_range)),
            "ssim": float(structural_similarity(truth, image, data_range=data_range, win_size=window))}

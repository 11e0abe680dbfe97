"""Label propagation from its definition: a loop over patches, in float64."""

import numpy as np


def propagate(features, first_labels, *, last_frames, window, window_shape, top_k, temperature):
    """Soft maps [h, w, L] of all frames but the first, from features [frames, h, w, C]."""
    rows, columns = first_labels.shape[:2]
    units = [f / np.linalg.norm(f, axis=-1, keepdims=True) for f in features.astype(np.float64)]
    maps = [first_labels.astype(np.float64)]
    for t in range(1, len(units)):
        context = [0, *range(max(1, t - last_frames), t)]
        soft = np.zeros_like(maps[0])
        for y in range(rows):
            for x in range(columns):
                near = inside(y, x, rows, columns, window, window_shape)
                cosines = np.concatenate([units[s][near] @ units[t][y, x] for s in context])
                cosines = cosines.astype(np.float32)  # so that equal features tie
                labels = np.concatenate([maps[s][near] for s in context])
                kept = cosines >= np.sort(cosines)[-min(top_k, len(cosines))]
                weights = np.exp(cosines[kept].astype(np.float64) / temperature)
                soft[y, x] = weights @ labels[kept] / weights.sum()
        maps.append(soft)
    return maps[1:]


def inside(y, x, rows, columns, window, window_shape):
    """Which patches [h, w] are in the window around (y, x)."""
    dy, dx = np.abs(np.arange(rows) - y)[:, None], np.abs(np.arange(columns) - x)[None]
    if window_shape == "circle":
        return dy**2 + dx**2 <= window**2
    return (dy <= window) & (dx <= window)

"""Features in two dimensions, to look at: t-SNE (scikit-learn) or UMAP (optional)."""

from __future__ import annotations

import warnings

import numpy as np

from barlowctl.amounts import counted
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.packages import package_of, required

PROJECTIONS = ("tsne", "umap")
_COMPONENTS = 50  # of the principal components that come first


def check_projection(name: str) -> None:
    """Refuse a projection that cannot be made, before anything is computed."""
    if name not in PROJECTIONS:
        raise UserError(
            f"--projection is '{name}'{did_you_mean(name, PROJECTIONS)}",
            allowed=", ".join(PROJECTIONS),
            next=instead("--projection", name, PROJECTIONS),
        )
    module = "umap" if name == "umap" else "sklearn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        required(f"--projection {name} needs the package {package_of(module)}", module, extra="embed")


def check_map_size(images: int) -> None:
    """That a map can be drawn of so many images.

    Raises:
        UserError: there are fewer than four.
    """
    if images < 4:
        raise UserError(
            f"a map of {counted(images, 'image')}", allowed="at least 4", next="--out features.npz without --map"
        )


def project(features: np.ndarray, name: str, *, seed: int = 0) -> np.ndarray:
    """Points `(N, 2)` of features `(N, F)`: neighbours by cosine similarity stay neighbours; distances mean little.

    Raises:
        UserError: fewer than four images, features that are not finite, or a missing package.
    """
    check_projection(name)
    check_map_size(len(features))
    if not np.isfinite(features).all():
        raise UserError("a map of features that contain NaN or infinity")
    wide = features.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-300)
    reduced = _principal(unit)
    if name == "umap":
        return _umap(reduced, seed)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    machine = TSNE(init="pca", perplexity=perplexity, random_state=seed, learning_rate="auto")
    if np.ptp(reduced) < 1e-9:  # all alike: there is nothing to lay out
        return np.zeros((len(features), 2))
    points: np.ndarray = machine.fit_transform(reduced)
    return points


def _principal(features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=0)
    left, sigma, _ = np.linalg.svd(centred, full_matrices=False)
    components: np.ndarray = (left * sigma)[:, :_COMPONENTS]
    return components


def _umap(features: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of a fixed seed's single thread
        import umap

        neighbours = min(15, len(features) - 1)
        machine = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, init="pca")
        points: np.ndarray = machine.fit_transform(features)
    return points

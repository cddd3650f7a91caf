"""Directions through trained weights: by hand, and against scikit-learn."""

import numpy as np
import pytest
import tf_keras as keras
from sklearn.decomposition import PCA

from tf_tickets.errors import UserError
from tf_tickets.evaluation import weight_planes
from tf_tickets.evaluation.weight_planes import random_plane, trajectory_plane
from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.models.weights import read_weights
from tf_tickets.runs.files import save_arrays


def weights():
    random = np.random.default_rng(0)
    shapes = {
        "conv/kernel": (3, 3, 2, 4),
        "conv/bias": (4,),
        "depthwise/depthwise_kernel": (3, 3, 4, 1),
        "norm/gamma": (4,),
        "logits/kernel": (4, 3),
    }
    return {path: random.normal(size=s).astype(np.float32) for path, s in shapes.items()}


def masks():
    kept = np.random.default_rng(1).random((3, 3, 2, 4)) < 0.4
    kept[..., 3] = False  # A filter of which nothing remains.
    return {"conv/kernel": kept}


def trained():
    kept = masks()
    return {path: array * kept.get(path, np.float32(1)) for path, array in weights().items()}


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()])


@pytest.mark.parametrize("name", ["first", "second"])
def test_random_filters_are_as_long_as_the_trained_ones(name):
    plane = random_plane(trained(), masks(), seed=3)
    direction, here = getattr(plane, name), trained()
    for channel in range(4):
        for path in ("conv/kernel", "logits/kernel")[: 1 if channel == 3 else 2]:
            lengths = [np.linalg.norm(w[path][..., channel]) for w in (direction, here)]
            assert lengths[0] == pytest.approx(lengths[1], rel=1e-5)
        path = "depthwise/depthwise_kernel"
        lengths = [np.linalg.norm(w[path][:, :, channel]) for w in (direction, here)]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-5)
    assert not direction["conv/kernel"][~masks()["conv/kernel"]].any()
    assert not direction["conv/bias"].any() and not direction["norm/gamma"].any()


def test_random_directions_follow_from_the_seed():
    planes = [random_plane(trained(), masks(), seed) for seed in (3, 3, 4)]
    assert np.array_equal(flat(planes[0].first), flat(planes[1].first))
    assert not np.array_equal(flat(planes[0].first), flat(planes[2].first))
    assert not np.array_equal(flat(planes[0].first), flat(planes[0].second))
    a, b = flat(planes[0].first), flat(planes[0].second)
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert planes[0].cosine == pytest.approx(cosine, abs=1e-6) and abs(cosine) < 0.4


def test_principal_components_are_those_of_scikit_learn():
    rows = np.random.default_rng(0).normal(size=(7, 40)) * np.linspace(1, 3, 40) + 5
    components, shares = weight_planes.principal_components(rows)
    expected = PCA(2, svd_solver="full").fit(rows)
    assert np.abs(components @ expected.components_.T) == pytest.approx(np.eye(2), abs=1e-9)
    assert shares == pytest.approx(expected.explained_variance_ratio_)


def test_a_trajectory_in_a_known_plane_is_recovered():
    """Snapshots along a·u + b·v from the trained weights, for orthonormal u and v."""
    here, random = trained(), np.random.default_rng(5)
    allowed = np.concatenate([masks().get(p, np.ones(w.shape)).ravel() for p, w in here.items()])
    u, v = np.linalg.qr((random.normal(size=(2, allowed.size)) * allowed).T)[0].T
    coordinates = np.array([[5, 1], [4, -1], [2, 2], [1, 0.5], [0, 0]])
    vectors = flat(here) + coordinates @ np.stack([u, v])
    snapshots = [weight_planes._unflat(row.astype(np.float32), here) for row in vectors]

    plane = trajectory_plane(here, masks(), snapshots)
    assert sum(plane.variance_shares) == pytest.approx(1, abs=1e-5)
    assert plane.variance_shares[0] > plane.variance_shares[1] > 0
    directions = np.stack([flat(plane.first), flat(plane.second)])
    assert directions @ directions.T == pytest.approx(np.eye(2), abs=1e-5)
    assert plane.trajectory @ directions + flat(here) == pytest.approx(vectors, abs=1e-4)
    lengths = np.linalg.norm(plane.trajectory, axis=1)
    assert lengths == pytest.approx(np.linalg.norm(coordinates, axis=1), abs=1e-4)
    assert (plane.trajectory[0] >= 0).all()
    assert not flat(plane.first)[allowed == 0].any()


def test_its_components_are_those_of_the_differences():
    """scikit-learn on the rows θ_i − θ_n of all snapshots but the last, as Li et al. have it."""
    here, random = trained(), np.random.default_rng(6)
    snapshots = [{p: w + random.normal(size=w.shape) for p, w in here.items()} for _ in range(6)]
    plane = trajectory_plane(here, {}, [*snapshots, here])
    rows = np.stack([flat(snapshot) - flat(here) for snapshot in snapshots])
    expected = PCA(2, svd_solver="full").fit(rows)
    assert plane.variance_shares == pytest.approx(expected.explained_variance_ratio_)
    found = np.stack([flat(plane.first), flat(plane.second)])
    signs = np.sign(np.diag(found @ expected.components_.T))[:, np.newaxis]
    assert found == pytest.approx(signs * expected.components_, abs=1e-6)
    assert plane.trajectory[:6] == pytest.approx(rows @ found.T) and not plane.trajectory[6].any()


def test_what_spans_no_plane():
    here = trained()
    line = [{path: (1 + step) * w for path, w in here.items()} for step in (0.4, 0.3, 0.1, 0)]
    for snapshots in (line, line[-3:], [here]):
        with pytest.raises(UserError, match="lie on one line"):
            trajectory_plane(here, {}, snapshots)


def test_a_trajectory_of_another_network():
    here = trained()
    other = {path: w for path, w in here.items() if path != "conv/bias"}
    with pytest.raises(UserError, match="snapshot 1 has conv/bias of shape missing; expected"):
        trajectory_plane(here, {}, [here, other])


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((3,)), layers.Dense(4, name="hidden"), layers.BatchNormalization(name="norm"),
         layers.Dense(2, name="logits")]
    )  # fmt: skip
    provenance = Provenance("", "", {}, "", 0, 1, "", "", {})
    return Ticket({"hidden/kernel": np.eye(3, 4, dtype=bool)}, provenance), model


def test_a_file_of_snapshots(network, tmp_path):
    ticket, model = network
    random, path = np.random.default_rng(0), tmp_path / "level_01_trajectory.npz"
    snapshots = [
        {
            name: array + random.normal(size=array.shape)
            for name, array in read_weights(model).items()
        }
        for _ in range(11)
    ]
    arrays = {f"{i:03d}/{name}": a for i, s in enumerate(snapshots) for name, a in s.items()}
    save_arrays(path, dict(reversed(arrays.items())))
    plane = weight_planes.plane_of(ticket, model, path)
    assert plane.kind == "pca" and plane.trajectory.shape == (11, 2)
    trainable = [{name: s[name] for name in plane.origin} for s in snapshots]
    same = trajectory_plane(plane.origin, ticket.masks, trainable)
    assert np.array_equal(plane.trajectory, same.trajectory)
    # BatchNorm's statistics are no part of it, its other weights are.
    assert set(plane.origin) == {variable.name[:-2] for variable in model.trainable_weights}

    random_directions = weight_planes.plane_of(ticket, model, None, seed=1)
    assert random_directions.kind == "random" and not len(random_directions.trajectory)
    assert not random_directions.first["hidden/kernel"][~np.eye(3, 4, dtype=bool)].any()


def test_a_wrong_file_is_named(network, tmp_path):
    path = tmp_path / "level_01_trajectory.npz"
    save_arrays(path, {"start": np.zeros(3)})
    with pytest.raises(UserError, match=f"{path}: holds an array start; expected names such as"):
        weight_planes.plane_of(*network, path)
    with pytest.raises(UserError, match="no such file"):
        weight_planes.plane_of(*network, tmp_path / "none.npz")

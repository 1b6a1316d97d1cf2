"""The estimators beside scikit-learn's own, and by its own checks."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom import nn

pytest.importorskip("sklearn")
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fastmom.integrations.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
X, Y = load_digits(return_X_y=True)
X = X / 16
OURS = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}


def classifier(**hyper: Any) -> MLPClassifier:
    return MLPClassifier(**{"hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0} | hyper)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OURS)
def test_checks_of_scikit_learn(kind: str) -> None:
    results = check_estimator(OURS[kind](max_iter=100), on_skip=None)
    assert sum(result["status"] == "passed" for result in results) > 50


# Beside scikit-learn's own ------------------------------------------------------------------------

TARGETS = {"classes": ("MLPClassifier", Y), "two classes": ("MLPClassifier", Y % 2),
           "labels": ("MLPClassifier", np.eye(10, dtype=int)[Y][:, :4]),
           "numbers": ("MLPRegressor", Y / 10),
           "rows of numbers": ("MLPRegressor", np.stack([Y / 10, Y % 3, Y % 2], axis=1))}


def pair(targets: str, **hyper: Any) -> tuple[Any, Any]:
    """Return both libraries' estimators after the same training from the same weights."""
    kind, y = TARGETS[targets]
    options: dict[str, Any] = {"hidden_layer_sizes": (7, 5), "shuffle": False, "random_state": 1,
                               "batch_size": 50, "learning_rate_init": 0.05, "tol": 0,
                               "solver": "sgd", "max_iter": 4} | hyper
    theirs, ours = getattr(neural_network, kind)(**options), OURS[kind](**options)
    for each in (theirs, ours):         # makes the network, trained on nothing much
        each.set_params(max_iter=1, learning_rate="constant", learning_rate_init=1e-30)
        each.fit(X[:300], y[:300])
        each.set_params(warm_start=True, max_iter=options["max_iter"],
                        **{name: options.get(name, "constant")
                           for name in ("learning_rate", "learning_rate_init")})
        each.t_, each.loss_curve_, each.best_loss_ = 0, [], np.inf
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(theirs, name), getattr(ours, name), strict=True):
            a[...] = b
    for each in (theirs, ours):
        each.fit(X[:300], y[:300])
    return theirs, ours


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("hyper", [
    {}, {"alpha": 1.0}, {"nesterovs_momentum": False}, {"momentum": 0.0},
    {"learning_rate": "invscaling"}, {"activation": "tanh"}, {"activation": "logistic"},
    {"activation": "identity"}], ids=str)
def test_the_same_training(targets: str, hyper: dict[str, Any]) -> None:
    theirs, ours = pair(targets, **hyper)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(theirs, name), getattr(ours, name), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-9)
    for name in ("out_activation_", "n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    if not hyper.get("alpha"):          # which they add per batch, before its step
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-9)
    if targets != "numbers" and "numbers" not in targets:
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)


def test_sample_weights_are_theirs() -> None:
    """Each batch's gradient is the weighted mean there and has the weights' overall mean here."""
    weights = np.tile(np.arange(1, 6) / 3, 60)      # the same in each batch
    theirs, ours = pair("classes")
    for each in (theirs, ours):
        each.fit(X[:300], Y[:300], weights)
    for a, b in zip(theirs.coefs_, ours.coefs_, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-8)


def test_adaptive_learning_rate() -> None:
    model = classifier(solver="sgd", learning_rate="adaptive", tol=1e3, n_iter_no_change=1,
                       max_iter=100, learning_rate_init=0.1).fit(X, Y)
    # The first epoch improves on nothing; of the others, each second one in a row divides by 5.
    assert model.n_iter_ == 1 + 2 * 9
    assert model.model_.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 5 ** 8)


# What scikit-learn's users do ---------------------------------------------------------------------

def test_strings_pipeline_and_search_in_processes() -> None:
    names = np.array([f"digit {y}" for y in Y])
    search = GridSearchCV(make_pipeline(StandardScaler(), classifier(solver="sgd", max_iter=20,
                                                                        learning_rate_init=0.03)),
                          {"mlpclassifier__momentum": [0.0, 0.9]}, n_jobs=2, cv=2)
    search.fit(X, names)
    assert search.best_params_ == {"mlpclassifier__momentum": 0.9}
    assert search.score(X, names) > 0.9
    assert set(search.predict(X[:50])) <= set(names)


def test_partial_fit() -> None:
    model = classifier()
    with pytest.raises(NotFittedError):
        model.predict(X)
    for i in range(0, 1200, 400):
        model.partial_fit(X[i:i + 400], Y[i:i + 400], classes=range(10))
    assert model.n_iter_ == 1
    assert len(model.loss_curve_) == 3
    assert model.t_ == 1200
    whole = classifier(max_iter=1, shuffle=False).fit(X[:1200], Y[:1200])
    parts = classifier(shuffle=False)
    for i in range(0, 1200, 400):
        parts.partial_fit(X[i:i + 400], Y[i:i + 400], classes=range(10))
    for a, b in zip(parts.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)     # the optimizer went on
    before = [w.copy() for w in model.coefs_]
    with pytest.raises(ValueError, match="y has classes"):
        model.partial_fit(X, Y + 1)
    assert all((a == b).all() for a, b in zip(before, model.coefs_, strict=True))


def test_warm_start_goes_on() -> None:
    once, twice = classifier(max_iter=6), classifier(max_iter=3, warm_start=True)
    once.fit(X, Y)
    twice.fit(X, Y).fit(X, Y)
    assert twice.loss_curve_[:3] == once.loss_curve_[:3]
    assert len(twice.loss_curve_) == 6
    assert twice.loss_curve_[5] < twice.loss_curve_[2]
    assert classifier(max_iter=3).fit(X, Y).fit(X, Y).loss_curve_ == once.loss_curve_[:3]
    twice.set_params(learning_rate_init=0.0)
    before = [w.copy() for w in twice.coefs_]
    twice.fit(X, Y)
    assert all((a == b).all() for a, b in zip(before, twice.coefs_, strict=True))


def test_early_stopping_keeps_the_best() -> None:
    model = classifier(early_stopping=True, n_iter_no_change=3, max_iter=200,
                       learning_rate_init=0.05).fit(X, Y)
    assert model.n_iter_ == len(model.validation_scores_) < 200
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.score(X, Y) > 0.95
    best = int(np.argmax(model.validation_scores_)) + 1
    other = classifier(early_stopping=True, max_iter=best, learning_rate_init=0.05).fit(X, Y)
    assert all((a == b).all() for a, b in zip(model.coefs_, other.coefs_, strict=True))


def test_no_improvement_ends_it() -> None:
    assert classifier(tol=10.0, n_iter_no_change=2, max_iter=50).fit(X, Y).n_iter_ == 4
    with pytest.warns(ConvergenceWarning, match=r"\(2\) reached"):
        classifier(max_iter=2).fit(X, Y)


@pytest.mark.parametrize(("one", "other"), [
    ({"dropout": 0.5}, {}), ({"solver": "lion"}, {}), ({"class_weight": "balanced"}, {}),
    ({"class_weight": {0: 9.0}}, {}), ({"random_state": 1}, {}), ({"beta_1": 0.5}, {}),
    ({"beta_2": 0.5}, {}), ({"epsilon": 0.1}, {}), ({"activation": "gelu"}, {}),
    ({"solver": "sgd", "momentum": fm.schedules.Linear(0.0, 0.9, steps=20)}, {"solver": "sgd"}),
    ({"learning_rate_init": fm.schedules.Linear(0.1, 0.0, steps=40)}, {}),
    ({"solver": "sgd", "power_t": 0.1, "learning_rate": "invscaling"},
     {"solver": "sgd", "learning_rate": "invscaling"}), ({"shuffle": False}, {}),
    ({"early_stopping": True, "validation_fraction": 0.5}, {"early_stopping": True})], ids=str)
def test_each_takes_effect(one: dict[str, Any], other: dict[str, Any]) -> None:
    y = Y.clip(max=3)       # classes of unequal number
    a, b, c = (classifier(**hyper).fit(X, y).coefs_[0] for hyper in (one, other, one))
    assert (a != b).any()
    np.testing.assert_array_equal(a, c)


def test_callbacks_and_output(capsys: Any) -> None:
    seen: list[int] = []
    callback = nn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    model = classifier(callbacks=[callback], verbose=True, max_iter=3).fit(X, Y)
    assert seen == [0, 1, 2]
    assert "loss" in capsys.readouterr().out
    assert len(model.history_["loss"]) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_network_has_the_dtype_of_the_samples(dtype: Any) -> None:
    model = classifier().fit(X.astype(dtype), Y)
    assert model.predict_proba(X.astype(dtype)).dtype == dtype
    assert {a.dtype for a in [*model.coefs_, *model.intercepts_]} == {np.dtype(dtype)}


def test_copies() -> None:
    model = classifier(warm_start=True).fit(X, Y)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    assert other.fit(X, Y).loss_curve_ == model.fit(X, Y).loss_curve_
    assert not hasattr(clone(model), "model_")


@pytest.mark.parametrize(("hyper", "message"), [
    ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"), ({"activation": "elu"}, "activation"),
    ({"solver": "lbfgs"}, "solver"), ({"alpha": -1}, "alpha"), ({"batch_size": 0}, "batch_size"),
    ({"learning_rate": "fast"}, "learning_rate"), ({"learning_rate": "adaptive"}, "solver='sgd'"),
    ({"learning_rate_init": -1}, "lr"), ({"max_iter": 0}, "max_iter"), ({"tol": -1}, "tol"),
    ({"momentum": 2, "solver": "sgd"}, "momentum"), ({"shuffle": 2}, "shuffle"),
    ({"dropout": 1.0}, "dropout"), ({"validation_fraction": 0}, "validation_fraction"),
    ({"n_iter_no_change": 0}, "n_iter_no_change"), ({"callbacks": [3]}, "callbacks"),
    ({"beta_1": 1.5}, "beta1"), ({"early_stopping": 1}, "early_stopping")], ids=str)
def test_wrong_arguments(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        classifier(**hyper).fit(X, Y)


@pytest.mark.parametrize(("weights", "message"), [
    (np.ones(3), "shape"), (-np.ones(len(X)), ">= 0"), (np.zeros(len(X)), "zero"),
    (np.full(len(X), np.nan), "NaN")], ids=["short", "negative", "zero", "NaN"])
def test_wrong_weights(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, Y, weights)

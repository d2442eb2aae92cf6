"""Distributions predicted, targets observed: negative log densities and masses, and proper scores."""

from jaxloss.losses.likelihood.counts import negative_binomial, poisson, zero_inflated_poisson
from jaxloss.losses.likelihood.densities import (
    beta,
    beta_gaussian,
    dirichlet,
    evidential,
    gaussian,
    gaussian_mixture,
    laplace,
    logistic,
    multivariate_gaussian,
    student_t,
    von_mises,
)
from jaxloss.losses.likelihood.scores import crps_ensemble, crps_gaussian, energy_score

__all__ = [
    "beta",
    "beta_gaussian",
    "crps_ensemble",
    "crps_gaussian",
    "dirichlet",
    "energy_score",
    "evidential",
    "gaussian",
    "gaussian_mixture",
    "laplace",
    "logistic",
    "multivariate_gaussian",
    "negative_binomial",
    "poisson",
    "student_t",
    "von_mises",
    "zero_inflated_poisson",
]

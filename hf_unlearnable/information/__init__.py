"""The mathematics of the methods, as plain functions on tensors."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.information.losses import contrastive_loss, distance_loss
    from hf_unlearnable.information.mutual_information import (
        histogram_mutual_information,
        intra_class_cosine,
        intra_class_covariance,
        ksg_mutual_information,
        variational_mutual_information,
    )
    from hf_unlearnable.information.posterior import bandwidth, bayes_error, kernel_posterior

__all__ = [
    "bandwidth",
    "bayes_error",
    "contrastive_loss",
    "distance_loss",
    "histogram_mutual_information",
    "intra_class_cosine",
    "intra_class_covariance",
    "kernel_posterior",
    "ksg_mutual_information",
    "variational_mutual_information",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "variational_mutual_information": "mutual_information",
        "intra_class_covariance": "mutual_information",
        "intra_class_cosine": "mutual_information",
        "histogram_mutual_information": "mutual_information",
        "bandwidth": "posterior",
        "bayes_error": "posterior",
        "contrastive_loss": "losses",
        "distance_loss": "losses",
        "kernel_posterior": "posterior",
        "ksg_mutual_information": "mutual_information",
    },
)

"""What is wrong with a head, seen on a small random state before any training."""

import torch

from mos_recbole.heads.base import OutputHead
from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.mixture import MixtureHead

_N_STATES = 5
_TOLERANCE = 1e-3


@torch.no_grad()
def head_fault(head: OutputHead, n_items: int, n_layers: int, *, sampled: bool = False) -> str | None:
    """Returns what is wrong with a head's shapes, mixture weights, probabilities or loss, in one sentence; or None.

    A head that returns mixture weights in place of log weights, for one, trains to a loss that is too good.

    Args:
        head: in evaluation mode.
        n_items: V.
        n_layers: of the states, if the head reads layers.
        sampled: whether it will be trained on sampled items, so that `sampled_loss` is looked at too.
    """
    shape = (_N_STATES, n_layers, head.width) if head.reads_layers else (_N_STATES, head.width)
    state, weight = torch.randn(shape), torch.randn(n_items, head.width)
    n_components, fault = head.n_components, None
    if isinstance(head, MixtureHead):
        vector, log_prior = head.components(state)
        width = head.item_vectors(weight).shape[-1]
        fault = shape_fault("components gives vectors", vector, (_N_STATES, n_components, width), "[N, K, d]")
        fault = fault or _weight_fault("components", log_prior, n_components)
    elif isinstance(head, LogitHead):
        logits = head.logits(head.states(state), head.items(weight))
        fault = shape_fault("logits gives logits", logits, (_N_STATES, n_components, n_items), "[N, K, V]")
        fault = fault or _weight_fault("log_prior", head.log_prior(state), n_components)
    fault = fault or _probability_fault(head, state, weight)
    return fault or (_sampled_fault(head, state, weight) if sampled else None)


def shape_fault(what: str, tensor: torch.Tensor, expected: tuple[int, ...], letters: str) -> str | None:
    """Returns that a tensor has another shape than expected, or is not finite; None if neither is so."""
    if tuple(tensor.shape) != expected:
        return f"{what} of shape {tuple(tensor.shape)}; expected {letters} = {expected}"
    return None if torch.isfinite(tensor).all() else f"{what} that are not finite"


def _weight_fault(method: str, log_prior_NK: torch.Tensor, n_components: int) -> str | None:
    fault = shape_fault(f"{method} gives log weights", log_prior_NK, (_N_STATES, n_components), "[N, K]")
    if fault is not None:
        return fault
    total = log_prior_NK.exp().sum(dim=1)
    if torch.allclose(total, torch.ones_like(total), atol=_TOLERANCE):
        return None
    return (
        f"{method} gives log weights whose exponentials sum to {total[0]:.4g}; expected 1: the logarithms of the "
        "mixture weights, such as torch.log_softmax gives"
    )


def _probability_fault(head: OutputHead, state: torch.Tensor, weight: torch.Tensor) -> str | None:
    log_prob = head.log_prob(state, weight)
    fault = shape_fault("log_prob gives log-probabilities", log_prob, (_N_STATES, len(weight)), "[N, V]")
    if fault is not None:
        return fault
    if not torch.allclose(head.log_prob(state[:1], weight), log_prob[:1], rtol=_TOLERANCE, atol=_TOLERANCE):
        return "log_prob changes with the other states of a batch; expected the same of a state alone"
    total = log_prob.exp().sum(dim=1)
    if not torch.allclose(total, torch.ones_like(total), atol=_TOLERANCE):
        return f"probabilities of all items sum to {total[0]:.4g}; expected 1"
    target = torch.arange(_N_STATES) % len(weight)
    loss, expected = head.loss(state, weight, target), -log_prob.gather(1, target[:, None]).mean()
    if loss.shape != () or not torch.allclose(loss, expected.to(loss.dtype), rtol=_TOLERANCE, atol=_TOLERANCE):
        return f"loss gives {loss.tolist()}; expected the mean of -log_prob at the targets, {expected:.4g}"
    return None


def _sampled_fault(head: OutputHead, state: torch.Tensor, weight: torch.Tensor) -> str | None:
    """Returns that the loss over sampled items is not the whole one where all items are sampled, each once."""
    target = torch.arange(_N_STATES) % len(weight)
    found = head.sampled_loss(state, weight, target, torch.arange(len(weight)), torch.zeros(len(weight)))
    expected = head.loss(state, weight, target)
    if torch.allclose(found, expected.to(found.dtype), rtol=_TOLERANCE, atol=_TOLERANCE):
        return None
    return (
        f"sampled_loss of all items gives {found:.4g}, loss {expected:.4g}; expected the same of both: an item's logit "
        "must not depend on which other items are given"
    )

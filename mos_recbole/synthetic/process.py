"""A first-order Markov chain over items whose log-probabilities have a planted rank."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

from mos_recbole.errors import InputError

# The chain is worked with as one matrix of float64.
MOST_ITEMS = 16_384
_BLOCK_NUMBERS = 2**24
# Popularity by Zipf and Mandelbrot: share of rank k ~ 1 / (k + _HEAD V), so that the head is flatter than a power law.
_HEAD = 0.02
# Contexts follow popularity more or less, by this share at most.
_PULL = 0.25
# In units of the interaction's spread: by how much the items of a context's own group are likelier at diversity 0.
_GROUP_PULL = 2.5
_ITEMS_PER_GROUP = 16
# As far as the interaction is made stronger in search of an entropy.
_LARGEST_SCALE = 100.0
_STEPS = 500


@dataclass(frozen=True)
class PlantedProcess:
    """log p(j|i) = context_factors[i] · item_factors[j], for every pair of items: the next one is j after i.

    Attributes:
        context_factors, item_factors: float64 [V, R]. The last column is the normaliser's: -log Z_i, and 1.
        popularity: float64 [V], the distribution that popularity alone would give; sums to 1.
        stationary: float64 [V], the share of every item in an endless sequence; sums to 1.
        scale: standard deviation of the interaction's logits.
    """

    context_factors: np.ndarray
    item_factors: np.ndarray
    popularity: np.ndarray
    stationary: np.ndarray
    scale: float

    @property
    def n_items(self) -> int:
        return len(self.item_factors)

    @property
    def rank(self) -> int:
        """R: of the V x V matrix of the log-probabilities as they are, normaliser and popularity included."""
        return self.item_factors.shape[1]

    def log_prob(self, context: np.ndarray) -> np.ndarray:
        """Returns the log-probabilities of all items after the given ones, [N] -> [N, V], in nats."""
        return self.context_factors[context] @ self.item_factors.T

    def target_log_prob(self, context: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns the log-probability of one item after another, [N], in nats."""
        blocks = (slice(first, first + 2**16) for first in range(0, len(context), 2**16))
        pairs = [(self.context_factors[context[rows]], self.item_factors[target[rows]]) for rows in blocks]
        return np.concatenate([np.einsum("nr,nr->n", *pair) for pair in pairs]) if pairs else np.empty(0)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields contexts with the log-probabilities of all items after them, a few at a time, in order."""
        size = max(1, _BLOCK_NUMBERS // self.n_items)
        for first in range(0, self.n_items, size):
            context = np.arange(first, min(first + size, self.n_items))
            yield context, self.log_prob(context)

    @cached_property
    def singular_values(self) -> np.ndarray:
        """The R singular values of the V x V matrix of log-probabilities that can be other than 0, descending.

        With thin QR decompositions of the two factors the matrix is Q (T U^T) P^T: those of the R x R matrix T U^T.
        """
        left, right = (np.linalg.qr(factors)[1] for factors in (self.context_factors, self.item_factors))
        return np.linalg.svd(left @ right.T, compute_uv=False)

    @cached_property
    def numerical_rank(self) -> int:
        """How many singular values are above V x float64's precision x the largest: what rounding makes of 0."""
        floor = self.singular_values[0] * self.n_items * np.finfo(np.float64).eps
        return int((self.singular_values > floor).sum())

    @cached_property
    def entropy(self) -> float:
        """Of the next item given the one before, over the stationary contexts, in nats: no model's loss is lower."""
        return -float(
            sum(
                self.stationary[context] @ np.einsum("nv,nv->n", np.exp(log_prob), log_prob)
                for context, log_prob in self.blocks()
            )
        )

    @cached_property
    def popularity_loss(self) -> float:
        """Entropy of the stationary distribution, in nats: the loss of the best model that ignores contexts."""
        share = self.stationary[self.stationary > 0]
        return float(-(share * np.log(share)).sum())

    def expected_recall(self, k: int) -> float:
        """Returns the best Recall@k that can be expected: the mean probability of a context's k likeliest items."""
        k = min(k, self.n_items)
        return float(
            sum(
                self.stationary[context] @ np.exp(np.partition(log_prob, -k, axis=1)[:, -k:]).sum(axis=1)
                for context, log_prob in self.blocks()
            )
        )


def plant(
    rank: int,
    n_items: int,
    generator: np.random.Generator,
    *,
    entropy: float | None = None,
    diversity: float = 1.0,
    noise: float = 0.0,
    decay: float = 0.0,
) -> PlantedProcess:
    """Returns a process with a known rank; docs/planted_rank.md derives it.

        log p(j|i) = a_i b_j + (1 - noise) s x_i·y_j / sqrt(r) - log Z_i,    x_i, y_j of r = rank - 2 numbers

    One dimension is popularity's (b, the logarithm of a long-tailed distribution, which context i follows by a_i, near
    1), one the normaliser's (log Z), and r are the interaction's: the columns of x and of y are random and orthogonal.
    Without a decay all are of one length and matter alike, so that leaving out a share of them loses that share of the
    variance; with a decay a the k-th column of x is in proportion to k^-a, and so is the k-th singular value of x y^T.
    Rank 2 has no interaction; in rank 1 all contexts are alike.

    Args:
        rank: R, from 1 to n_items.
        n_items: V.
        generator: of all that is random.
        entropy: of the next item without noise, in nats, which s is chosen for; None: two thirds of what popularity
            alone gives. For ranks below 3 it follows from popularity.
        diversity: how unrelated an item is to the one before it, from 0 to 1. 1: contexts and items have nothing to do
            with each other; below, items come in groups, and the lower, the more the chain stays in one.
        noise: how much of what contexts say is lost, from 0 to below 1: log p = (1 - noise) log p0 + noise log p1 + c
            with p0 without noise and p1 popularity. This mean keeps the rank; p = (1 - noise) p0 + noise p1 would not.
        decay: a, 0 or more.

    Raises:
        InputError: no process is like that; the message says what the nearest possible is.
    """
    _require(rank, n_items, entropy, diversity, noise, decay)
    n_dimensions = max(0, rank - 2)
    share = 1 / (np.arange(1, n_items + 1) + _HEAD * n_items)
    popularity = generator.permutation(share / share.sum())
    pull = 1 + _PULL * generator.uniform(-1, 1, n_items) if rank > 1 else np.ones(n_items)
    context, item = _interaction(n_dimensions, n_items, diversity, generator)
    length = np.arange(1, n_dimensions + 1) ** -float(decay)
    context *= length / np.sqrt(np.mean(length**2) if n_dimensions else 1.0)

    def process(scale: float, noise: float) -> PlantedProcess:
        contexts = [(1 + (1 - noise) * (pull - 1))[:, None], (1 - noise) * scale * context]
        return _normalised(np.hstack(contexts), np.hstack([np.log(popularity)[:, None], item]), popularity, scale, rank)

    if n_dimensions == 0:
        return _of_rank(process(0.0, noise))
    highest = process(0.0, 0.0).entropy
    wanted = highest * 2 / 3 if entropy is None else entropy
    if wanted >= highest:
        raise InputError(f"entropy {entropy:g} nats: popularity alone has {highest:.4f}; expected less")
    upper = 1.0
    while process(upper, 0.0).entropy > wanted:
        upper *= 1.5
        if upper > _LARGEST_SCALE:
            lowest = process(upper / 1.5, 0.0).entropy
            raise InputError(f"entropy {wanted:g} nats: too low for these items; expected {lowest:.4f} or more")
    scale = optimize.brentq(lambda s: process(s, 0.0).entropy - wanted, 0.0, upper, xtol=1e-6, rtol=1e-6)
    return _of_rank(process(float(scale), noise))


def _of_rank(made: PlantedProcess) -> PlantedProcess:
    """Returns the process, whose log-probabilities have its rank in float64.

    Raises:
        InputError: so much noise or decay, or so little entropy, that they have a lower one.
    """
    if made.numerical_rank != made.rank:
        raise InputError(
            f"rank {made.rank}: in float64 the log-probabilities have rank {made.numerical_rank}, what tells contexts "
            "apart being lost in rounding; expected less noise or decay, or another entropy"
        )
    return made


def _require(rank: int, n_items: int, entropy: float | None, diversity: float, noise: float, decay: float) -> None:
    if not 2 <= n_items <= MOST_ITEMS:
        raise InputError(f"{n_items} items; expected 2 to {MOST_ITEMS:,}")
    if rank < 1:
        raise InputError(f"rank {rank}; expected 1 (popularity alone) or more")
    if rank > n_items:
        raise InputError(
            f"rank {rank}: the log-probabilities of {n_items} items are a matrix of {n_items} x {n_items}, whose rank "
            f"is at most {n_items}; expected a rank of at most {n_items}, or {rank} items or more"
        )
    if not 0 <= diversity <= 1:
        raise InputError(f"diversity {diversity:g}; expected 0 (next items are close) to 1 (they are unrelated)")
    if not 0 <= noise < 1:
        raise InputError(f"noise {noise:g}; expected 0 to below 1")
    if not 0 <= decay < np.inf:
        raise InputError(f"decay {decay:g}; expected 0 (all singular values are equal) or more")
    if entropy is not None and not entropy > 0:
        raise InputError(f"entropy {entropy:g} nats; expected a number above 0")
    if rank < 3 and (diversity != 1 or entropy is not None):
        option = "entropy" if entropy is not None else "diversity"
        raise InputError(
            f"rank {rank} with an {option} asked for: popularity and the normaliser take two dimensions, so that "
            f"nothing is left to set it by; expected a rank of 3 or more, or no {option}"
        )


def _interaction(
    n_dimensions: int, n_items: int, diversity: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors of contexts and of items, [V, r] each, whose products have a variance of about 1."""
    context, item = (_orthogonal(n_items, n_dimensions, generator) for _ in range(2))
    if diversity < 1 and n_dimensions:
        closeness = 1 - diversity
        n_groups = max(2, n_items // _ITEMS_PER_GROUP)
        centre = generator.standard_normal((n_groups, n_dimensions))
        centre *= np.sqrt(n_dimensions) / np.linalg.norm(centre, axis=1, keepdims=True)
        own = centre[generator.permutation(n_items) % n_groups]
        # Half of an item's vector is its group's at most, or the items of a group would be one. A context's own group
        # then has, on average, logits that are higher by alike x sqrt(share r) standard deviations.
        share = closeness / 2
        alike = min(0.9, _GROUP_PULL * closeness / np.sqrt(share * n_dimensions))
        item = np.sqrt(share) * own + np.sqrt(1 - share) * item
        context = alike * own + np.sqrt(1 - alike**2) * context
    return context / n_dimensions**0.25 if n_dimensions else context, item / max(1, n_dimensions) ** 0.25


def _orthogonal(n_rows: int, n_columns: int, generator: np.random.Generator) -> np.ndarray:
    """Returns random columns that are orthogonal, with a mean square of 1."""
    return np.sqrt(n_rows) * np.linalg.qr(generator.standard_normal((n_rows, n_columns)))[0]


def _normalised(
    context: np.ndarray, item: np.ndarray, popularity: np.ndarray, scale: float, rank: int
) -> PlantedProcess:
    """Returns the process with these logits."""
    n_items = len(item)
    chain = np.empty((n_items, n_items))
    normaliser = np.empty(n_items)
    size = max(1, _BLOCK_NUMBERS // n_items)
    for first in range(0, n_items, size):
        rows = slice(first, first + size)
        logits = context[rows] @ item.T
        largest = logits.max(axis=1, keepdims=True)
        chain[rows] = np.exp(logits - largest)
        total = chain[rows].sum(axis=1, keepdims=True)
        chain[rows] /= total
        normaliser[rows] = (largest + np.log(total))[:, 0]
    if rank > 1:
        context = np.hstack([context, -normaliser[:, None]])
        item = np.hstack([item, np.ones((n_items, 1))])
    return PlantedProcess(context, item, popularity, _stationary(chain, popularity), scale)


def _stationary(chain: np.ndarray, first_guess: np.ndarray) -> np.ndarray:
    """Returns the stationary distribution of a chain whose entries are above 0, [V].

    By steps of the chain where these settle soon, as they do unless it stays in parts for long; else by solving
    (1 - P^T) x = 0 with x summing to 1.
    """
    share = first_guess
    for _ in range(_STEPS):
        following = share @ chain
        following /= following.sum()
        if np.abs(following - share).sum() < 1e-12:
            return following
        share = following
    equations = np.eye(len(chain)) - chain.T
    equations += 1 / len(chain)
    share = np.linalg.solve(equations, np.full(len(chain), 1 / len(chain)))
    if share.min() < 0 or np.abs(share @ chain - share).sum() > 1e-9:
        raise InputError("the chain hardly leaves where it is; expected a higher entropy or diversity")
    return share / share.sum()

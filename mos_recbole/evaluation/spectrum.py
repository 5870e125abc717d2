"""The spectrum of what a model says: singular values, ranks and energies of a matrix, exact or with a stated error.

A softmax over V items says A = H Wᵀ + 1 bᵀ - l 1ᵀ of N contexts, with their states H [N, d], the item table W, a bias b
of the items, and log-normalisers l. The rank of A, [N, V], is at most

                                     without b    with b
    as it is                         d + 1        d + 2
    column means subtracted          d + 1        d + 1
    row means subtracted             d            d + 1
    both subtracted                  d            d

Here "centred" is with both subtracted: what is left is neither how likely an item is on the whole nor a context's
normaliser, which no ranking depends on, but how items' chances differ from context to context.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Method = Literal["exact", "randomised"]

DOUBLE, SINGLE = (float(np.finfo(kind).eps) for kind in (np.float64, np.float32))
"""Units of rounding."""

RELATIVE_THRESHOLDS = (1e-2, 1e-3, 1e-4)
"""Parts of the largest singular value above which values are counted, beside those above rounding."""

# Halko, Martinsson and Tropp, sections 4.2 and 4.5: 5 or 10 more vectors and one or two iterations are enough.
_OVERSAMPLING = 16
_ITERATIONS = 2
_BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class Bounds:
    """Between which two numbers a quantity is for certain; they are equal where it is known."""

    low: float
    high: float


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a matrix, all of them or the leading ones.

    Attributes:
        values: float64, in descending order. Of the randomised method each is a lower bound on the matrix's own, which
            is at most sqrt(value² + residual²).
        residual: Frobenius norm of the matrix less its approximation by `values`; 0 where these are all.
        shape: N and V.
        threshold: values up to here are rounding and count as 0.
        method: how the values were computed.
    """

    values: np.ndarray
    residual: float
    shape: tuple[int, int]
    threshold: float
    method: Method

    @property
    def full_rank(self) -> int:
        """The largest rank that such a matrix can have."""
        return min(self.shape)

    @property
    def largest(self) -> float:
        """σ₁."""
        return float(self.values[0])

    @property
    def energy(self) -> float:
        """The sum of squares of all singular values, which is that of all entries."""
        return float(np.square(self._signal).sum()) + self._unknown**2

    @property
    def _signal(self) -> np.ndarray:
        return self.values[self.values > self.threshold]

    @property
    def _unknown(self) -> float:
        return self.residual if self.residual > self.threshold else 0.0

    def rank(self, relative: float = 0.0) -> Bounds:
        """Returns how many singular values exceed the threshold, and this part of the largest one."""
        threshold = max(self.threshold, relative * self.largest)
        low = int((self.values > threshold).sum())
        if self.residual > threshold:
            return Bounds(low, self.full_rank)
        return Bounds(low, int((np.hypot(self.values, self._unknown) > threshold).sum()))

    def effective_rank(self) -> Bounds:
        """Returns exp(-Σ p ln p) with p = σ / Σσ: from 1 to the rank, which it is where all values are equal.

        Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007. Values that are not
        known make it larger, as they are below the others; the most where they are all equal. 0 for a matrix of zeros.
        """
        known = self._signal
        low = _exp_entropy(known)
        n_unknown = self.full_rank - len(self.values)
        if self._unknown == 0 or n_unknown == 0:
            return Bounds(low, low)
        tail = np.full(n_unknown, self._unknown / np.sqrt(n_unknown))
        return Bounds(low, _exp_entropy(np.concatenate([known, tail])))

    def energy_beyond(self, rank: int) -> Bounds:
        """Returns the part of the energy, 0 to 1, that the nearest matrix of this rank lacks (Eckart, Young 1936)."""
        if self.energy == 0 or rank >= self.full_rank:
            return Bounds(0.0, 0.0)
        beyond = float(np.square(self._signal[rank:]).sum())
        # The leading values together have too little energy by the residual's, at most.
        return Bounds(beyond / self.energy, (beyond + self._unknown**2) / self.energy)

    def distance_beyond(self, rank: int) -> Bounds:
        """Returns by how much an entry of the nearest matrix of this rank is off (root mean square), in its unit."""
        share, size = self.energy_beyond(rank), self.energy / (self.shape[0] * self.shape[1])
        return Bounds(float(np.sqrt(share.low * size)), float(np.sqrt(share.high * size)))


@dataclass(frozen=True)
class OutputSpectra:
    """What the spectrum of a model's log-probabilities is.

    Attributes:
        raw: of the matrix [N, V] as it is.
        centred: of the same with the means of its rows and columns subtracted.
        width: d, of the states and of the item table; None for a model without such.
        probabilities: whether the model gives these log-probabilities itself, or they were made of its scores.
    """

    raw: Spectrum
    centred: Spectrum
    width: int | None
    probabilities: bool


def centre_(matrix_NV: torch.Tensor) -> torch.Tensor:
    """Returns the matrix itself, changed: less the means of its rows and of its columns, so that all sum to 0."""
    matrix_NV -= matrix_NV.mean(dim=1, keepdim=True)
    matrix_NV -= matrix_NV.mean(dim=0, keepdim=True)
    return matrix_NV


def exact_spectrum(matrix_NV: torch.Tensor, precision: float = DOUBLE, scale: float | None = None) -> Spectrum:
    """Returns all singular values, by LAPACK's decomposition (cuSOLVER's on a GPU) of the matrix itself.

    Not by the eigenvalues of its Gram matrix, which lose all values below 1e-8 of the largest.

    The threshold is σ₁ max(N, V) ε, as NumPy's and MATLAB's rank has it.

    Args:
        matrix_NV: float64.
        precision: ε, the unit of rounding of its entries relative to their size.
        scale: σ₁ of the matrix that this one was computed from; None where it is its own.

    Raises:
        ValueError: entries that are infinite or NaN, or not float64.
    """
    require_finite(matrix_NV)
    # By default cuSOLVER iterates with Jacobi rotations to a tolerance of its own.
    driver = "gesvd" if matrix_NV.is_cuda else None
    # Of a wide matrix LAPACK (MKL's) takes ten times as long as of its transpose.
    tall = matrix_NV if matrix_NV.shape[0] >= matrix_NV.shape[1] else matrix_NV.T
    values = torch.linalg.svdvals(tall, driver=driver).cpu().numpy()
    return _spectrum(values, 0.0, matrix_NV, precision, scale, "exact")


def randomised_spectrum(
    matrix_NV: torch.Tensor, components: int, seed: int = 0, precision: float = DOUBLE, scale: float | None = None
) -> Spectrum:
    """Returns the leading singular values, by randomised subspace iteration, with the error that they have.

    Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011, algorithms 4.4 and 5.1, with
    two iterations. Their estimate of the error (section 4.3) holds with high probability; here the residual itself is
    computed, so that the bounds hold for certain, rounding apart.

    Args:
        matrix_NV: float64.
        components: how many values; 16 more vectors are drawn.
        seed: of the random vectors.
        precision, scale: as of `exact_spectrum`.

    Raises:
        ValueError: as `exact_spectrum`, or no components.
    """
    require_finite(matrix_NV)
    if components < 1:
        raise ValueError(f"{components} components; expected 1 or more")
    basis_Nl = leading_subspace(matrix_NV, components, seed)
    projected_lV = basis_Nl.T @ matrix_NV
    values = torch.linalg.svdvals(projected_lV.T).cpu().numpy()
    # Not as a difference of squares, in which residuals below 1e-8 of the norm are lost.
    beyond = float(np.square(values[components:]).sum())
    rows = max(1, _BLOCK_BYTES // (8 * matrix_NV.shape[1]))
    for block_nV, basis_nl in zip(matrix_NV.split(rows), basis_Nl.split(rows), strict=True):
        beyond += float(torch.addmm(block_nV, basis_nl, projected_lV, alpha=-1).square().sum())
    return _spectrum(values[:components], float(np.sqrt(beyond)), matrix_NV, precision, scale, "randomised")


def leading_subspace(matrix_NV: torch.Tensor, components: int, seed: int = 0) -> torch.Tensor:
    """Returns an orthonormal basis [N, l] of where the matrix is largest, as `randomised_spectrum` describes.

    Args:
        matrix_NV, components, seed: as of `randomised_spectrum`; l is 16 more than the components at most.
    """
    n_vectors = min(components + _OVERSAMPLING, *matrix_NV.shape)
    generator = torch.Generator().manual_seed(seed)
    start_Vl = torch.randn(matrix_NV.shape[1], n_vectors, dtype=torch.float64, generator=generator)
    basis_Nl = _orthonormal(matrix_NV @ start_Vl.to(matrix_NV.device))
    for _ in range(_ITERATIONS):
        basis_Nl = _orthonormal(matrix_NV @ _orthonormal(matrix_NV.T @ basis_Nl))
    return basis_Nl


def _spectrum(
    values: np.ndarray, residual: float, matrix_NV: torch.Tensor, precision: float, scale: float | None, method: Method
) -> Spectrum:
    shape = (matrix_NV.shape[0], matrix_NV.shape[1])
    threshold = (float(values[0]) if scale is None else scale) * max(shape) * precision
    return Spectrum(values, residual, shape, threshold, method)


def _orthonormal(matrix: torch.Tensor) -> torch.Tensor:
    orthonormal: torch.Tensor = torch.linalg.qr(matrix).Q
    return orthonormal


def _exp_entropy(values: np.ndarray) -> float:
    if not len(values):
        return 0.0
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def require_finite(matrix_NV: torch.Tensor) -> None:
    """Raises ValueError for entries that are infinite or NaN, or not float64."""
    if matrix_NV.dtype != torch.float64:
        raise ValueError(
            f"the matrix is {matrix_NV.dtype}; expected float64, in which small values are told from noise"
        )
    # By the sum, which needs no mask as large as the matrix.
    if not bool(torch.isfinite(matrix_NV.sum())):
        raise ValueError("the matrix has entries that are infinite or NaN")

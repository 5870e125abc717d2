"""The training loss of all output heads."""

from mos_recbole.losses.mixture import mixture_cross_entropy

__all__ = ["mixture_cross_entropy"]

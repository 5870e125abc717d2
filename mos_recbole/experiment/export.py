"""Trained models for other programs: as an ONNX model that gives items, or as the vectors that scores are made of."""

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mos_recbole.errors import InputError
from mos_recbole.experiment.build import faults_of_others
from mos_recbole.experiment.recommend import Recommender, user_blocks
from mos_recbole.heads import LogitHead, MixtureHead
from mos_recbole.io import atomic_write, os_errors_as_input_errors
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.progress import log_from

if TYPE_CHECKING:
    from mos_recbole.experiment.load import TrainedRun

_WRITABLE = "a place that can be written to"


class _BestItems(nn.Module):
    """From sequences of item ids [B, L] to the best items [B, k] and their log-probabilities."""

    def __init__(self, recommender: Recommender, model: EncoderHeadRecommender) -> None:
        super().__init__()
        self.model, self.k = model, recommender.k
        candidate_V = recommender.name_order_V.argsort()
        kept_V = candidate_V != 0
        if recommender.excluded_V is not None:
            kept_V &= ~recommender.excluded_V[candidate_V]
        # By name: of equal scores, ONNX's TopK takes the first.
        self.candidate_V = nn.Buffer(candidate_V[kept_V])

    def forward(self, item_seq: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.model
        length_B = (item_seq != 0).sum(dim=1)
        user_B = torch.zeros_like(length_B)
        state_Bd = model({model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: length_B, model.USER_ID: user_B})
        if isinstance(model.head, LogitHead):
            log_prob_BV = model.head.log_prob_of(state_Bd, model.head.biased_items(model.item_table))
        else:
            log_prob_BV = model.log_prob(state_Bd)
        score_Bk, place_Bk = log_prob_BV[:, self.candidate_V].topk(self.k, dim=1)
        return self.candidate_V[place_Bk], score_Bk


@torch.no_grad()
def export_onnx(run: "TrainedRun", path: Path, k: int = 10) -> None:
    """Writes an ONNX model: `item_seq`, int64 [batch, length], to `items`, int64 [batch, k], and `scores`.

    Sequences are item ids, the oldest first, then 0 up to the length, which is at most MAX_ITEM_LIST_LENGTH. Scores are
    log-probabilities. The model's metadata have the items' names by id, a JSON list, as "item_names".

    Args:
        run: the trained run, on the CPU.
        path: of the file.
        k: items a query.

    Raises:
        InputError: a package is missing; the model is one of RecBole's own classes, has to know the user, or does what
            ONNX cannot; k is not among 1 and the number of candidates; or the file system refuses.
    """
    model = _own_model(run)
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed; expected: pip install 'mos_recbole[onnx]'")
    recommender = Recommender(run, k)
    recommender.require_no_user()
    length = run.config["MAX_ITEM_LIST_LENGTH"]
    example_BL = torch.ones(2, length, dtype=torch.int64)
    example_BL[0, length // 2 :] = 0
    # RecBole's models may count on all L columns.
    shape: dict[int, Any] = {0: torch.export.Dim("batch")}
    try:
        # Notes on packages that are not needed, and on what will change in them.
        with warnings.catch_warnings(), log_from("torch.onnx", logging.ERROR):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _BestItems(recommender, model).eval(),
                (example_BL,),
                input_names=["item_seq"],
                output_names=["items", "scores"],
                dynamic_shapes=(shape,),
                dynamo=True,
                verbose=False,
                external_data=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(f"{run.config['model']} cannot be written as ONNX: {str(error).splitlines()[0]}") from error
    assert program is not None
    input_shape = program.model.graph.inputs[0].shape
    assert input_shape is not None
    if isinstance(input_shape[0], int):  # the encoder's code made a constant of it
        raise InputError(f"{run.config['model']} cannot be written as ONNX: its encoder fixes the size of a batch")
    program.model.metadata_props["item_names"] = json.dumps(recommender.item_names.to_pylist())
    with os_errors_as_input_errors(path, _WRITABLE), atomic_write(path) as temporary:
        program.save(temporary, external_data=False)


@torch.no_grad()
def export_vectors(run: "TrainedRun", path: Path) -> None:
    """Writes the vectors of items and of users' mixture components, as NumPy's .npz.

    It has `item_names` [V], `item_vectors` [V, d] and `item_bias` [V]; of all users, after their last items,
    `user_names` [U], `component_vectors` [U, K, d] and `log_mixture_weights` [U, K]; and `is_candidate` [V]. The
    padding item is the first. With components z_k and weights π_k of a user, an item's log-probability is
    log Σ_k π_k softmax_v(z_k·w_v + b_v).

    Raises:
        InputError: the scores are no such function; a plugin's code fails; or the file system refuses.
    """
    head = _own_model(run).head
    if not isinstance(head, MixtureHead):
        raise InputError(f"{run.config['model']}: its scores are no dot products of vectors; expected --format onnx")
    recommender = Recommender(run, 1)
    item_Vd = head.item_vectors(run.model.item_table).float().cpu().numpy()
    with faults_of_others(type(run.model), "used"):
        parts = [(block.names, *recommender.head_queries(block)) for block in user_blocks(run, None)]
        names, components, log_weights = zip(*parts, strict=True)
        component_UKd, n_users = torch.cat(components), sum(map(len, names))
        expected = (n_users, head.n_components, item_Vd.shape[1])
        if component_UKd.shape != expected or not component_UKd.is_floating_point():
            raise ValueError(
                f"components {tuple(component_UKd.shape)}, {component_UKd.dtype}; expected real {expected}"
            )
    excluded_V = np.zeros(len(item_Vd), dtype=bool) if recommender.excluded_V is None else recommender.excluded_V.cpu()
    is_candidate_V = ~np.asarray(excluded_V)
    is_candidate_V[0] = False
    arrays: dict[str, Any] = {
        "item_names": np.array(recommender.item_names.to_pylist()),
        "item_vectors": item_Vd,
        "item_bias": np.zeros(len(item_Vd), np.float32) if head.item_bias is None else head.item_bias.cpu().numpy(),
        "is_candidate": is_candidate_V,
        "user_names": np.array([name for part in names for name in part.to_pylist()]),
        "component_vectors": component_UKd.cpu().numpy(),
        "log_mixture_weights": torch.cat(log_weights).cpu().numpy(),
    }
    place = os_errors_as_input_errors(path, _WRITABLE)
    with place, atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _own_model(run: "TrainedRun") -> EncoderHeadRecommender:
    if not isinstance(run.model, EncoderHeadRecommender):
        raise InputError(f"{run.config['model']} is RecBole's own class; expected a model with a head, as GRU4RecMoS")
    return run.model

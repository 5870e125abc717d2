"""Training batches, gathered on the device from the flat arrays."""

import random
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from recbole.data.dataloader import UserDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader
from recbole.sampler import RepeatableSampler, Sampler
from recbole.utils import InputType, ModelType

from mos_recbole.compat import is_recbole_model
from mos_recbole.data import Segments, SequenceDataset, Sequences, Split
from mos_recbole.errors import InputError
from mos_recbole.models import TARGET_PLACE
from mos_recbole.training.prefixes import Fields, PrefixGatherer, PrefixTable, to_device
from mos_recbole.training.transforms import BatchTransform, has_no_targets, training_transform

_WHOLE = slice(None)


class TrainLoader(Protocol):
    """Batches of one epoch; their order depends on the seed and the epoch's number alone.

    (Sampled negatives come from NumPy's global source, as RecBole's samplers draw them; checkpoints hold its state.)
    """

    n_targets: int

    def epoch(self, number: int) -> Iterator[tuple[Interaction, int]]:
        """Yields batches on the device, each with its number of targets.

        A loader with a shard yields that part of every batch, with the whole batch's number of targets.
        """
        ...


def epoch_seed(seed: int, epoch: int) -> int:
    """Returns the seed of an epoch, the same whether or not earlier epochs were run in this process."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Returns the source of an epoch's order."""
    return torch.Generator().manual_seed(epoch_seed(seed, epoch))


class PrefixLoader:
    """RecBole's training samples: one prefix a target, shuffled every epoch, with sampled negatives where asked for.

    Args:
        gatherer: makes the batches.
        fields: RecBole's names.
        batch_size: targets a batch.
        seed: of the order.
        shuffle: whether the targets are in a new order every epoch.
        sampler: RecBole's, for a negative item per target, or None.
        pointwise: whether the negatives are samples of their own, with a label that tells them from the targets,
            instead of a column beside the targets.
        transform: of the batches, or None.
        shard: which of every batch's samples to yield.
    """

    def __init__(
        self,
        gatherer: PrefixGatherer,
        fields: Fields,
        batch_size: int,
        seed: int,
        shuffle: bool,
        sampler: RepeatableSampler | None = None,
        pointwise: bool = False,
        transform: BatchTransform | None = None,
        shard: slice = _WHOLE,
    ) -> None:
        self.gatherer, self.fields, self.seed, self.shuffle = gatherer, fields, seed, shuffle
        self.sampler, self.pointwise, self.transform, self.shard = sampler, pointwise, transform, shard
        # As RecBole counts: the labelled negatives are samples of the batch.
        self.batch_size = max(1, batch_size // 2) if sampler is not None and pointwise else batch_size
        self.n_targets = len(gatherer)

    def epoch(self, number: int) -> Iterator[tuple[Interaction, int]]:
        order = torch.arange(self.n_targets)
        if self.shuffle:
            order = torch.randperm(self.n_targets, generator=epoch_generator(self.seed, number))
        source = random.Random(epoch_seed(self.seed, number))
        for index in order.split(self.batch_size):
            batch = self.gatherer.batch(index[self.shard].contiguous(), self.fields)
            if self.transform is not None:
                batch = self.transform(batch, source)
                if has_no_targets(batch):
                    continue
            yield self._with_negatives(batch), len(index)

    def _with_negatives(self, batch: Interaction) -> Interaction:
        if self.sampler is None:
            return batch
        user, item = batch[self.fields.user].cpu().numpy(), batch[self.fields.item].cpu().numpy()
        negative = self.sampler.sample_by_user_ids(user, item, 1).to(self.gatherer.device)
        if not self.pointwise:
            batch.update(Interaction({self.fields.negative_item: negative}))
            return batch
        label = torch.cat([torch.ones(len(batch)), torch.zeros(len(batch))]).to(self.gatherer.device)
        both = batch.repeat(2)
        items = torch.cat([batch[self.fields.item], negative])
        both.update(Interaction({self.fields.item: items, self.fields.label: label}))
        return both


_POOLED_WINDOWS = 2**17


class WindowLoader:
    """Whole windows, every position of which is trained on: the targets of an epoch for 1/L of the prefixes' work.

    A run of T targets is cut into windows of L targets. With T > L the first window has s targets, s drawn anew for
    each run and epoch from 0 to L - 1; so no target always stands at a window's start, where the context is short. For
    a run of the items a to h, L = 3 and s = 1, the inputs and their targets are

        a->b | b->c c->d d->e | e->f f->g g->h

    Args:
        sequences: the flat arrays.
        segments: where the targets are.
        max_length: L.
        batch_size: targets a batch, about: a batch holds whole windows of similar lengths.
        seed: of borders and order.
        fields: RecBole's names.
        device: where batches are made.
        shuffle: whether the windows are in a new order every epoch.
        shard: which of every batch's windows to yield; they may hold no target.
    """

    # Windows are sorted by length among this many batches' worth of them, which leaves little padding and much chance.
    _POOL = 16

    def __init__(
        self,
        sequences: Sequences,
        segments: Segments,
        max_length: int,
        batch_size: int,
        seed: int,
        fields: Fields,
        device: torch.device,
        shuffle: bool,
        shard: slice = _WHOLE,
    ) -> None:
        self.items = torch.from_numpy(sequences.items).to(device)
        self.target_start = torch.from_numpy(segments.target_start)
        self.counts = torch.from_numpy(segments.counts)
        self.max_length, self.batch_size, self.seed = max_length, batch_size, seed
        self.fields, self.device, self.shuffle, self.shard = fields, device, shuffle, shard
        self.n_targets = segments.n_targets

    def windows(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the epoch's windows: the rows of their first targets and their numbers of targets."""
        return self._cut(epoch_generator(self.seed, number))

    def _cut(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.max_length
        shift_S = torch.randint(0, length, self.counts.shape, generator=generator)
        # A border at target s - L, before the run, is the same as none.
        lead_S = torch.where((self.counts > length) & (shift_S > 0), length - shift_S, 0)
        n_windows_S = (self.counts + lead_S + length - 1) // length
        segment_W = torch.repeat_interleave(torch.arange(len(self.counts)), n_windows_S)
        place_W = torch.arange(len(segment_W)) - (n_windows_S.cumsum(0) - n_windows_S)[segment_W]
        start_W = place_W * length - lead_S[segment_W]
        stop_W = torch.minimum(start_W + length, self.counts[segment_W])
        start_W = start_W.clamp(min=0)
        return self.target_start[segment_W] + start_W, stop_W - start_W

    def _batches(self, size_W: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yields the window numbers of each batch."""
        n_windows = len(size_W)
        order_W = torch.randperm(n_windows, generator=generator) if self.shuffle else torch.arange(n_windows)
        per_pool = max(1, round(self._POOL * self.batch_size * n_windows / self.n_targets))
        # Many pools at a time, but not all, whose temporaries would be the most that a long log takes.
        parts = order_W.split(per_pool * max(1, _POOLED_WINDOWS // per_pool))
        sorted_parts, count_parts = zip(*(self._cut_pools(part, size_W, per_pool) for part in parts), strict=True)
        order_W, counts_N = torch.cat(sorted_parts), torch.cat(count_parts)
        stop_N = counts_N.cumsum(0)
        order_N = torch.randperm(len(stop_N), generator=generator) if self.shuffle else torch.arange(len(stop_N))
        for start, stop in zip((stop_N - counts_N)[order_N].tolist(), stop_N[order_N].tolist(), strict=True):
            yield order_W[start:stop]

    def _cut_pools(
        self, window_W: torch.Tensor, size_W: torch.Tensor, per_pool: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns windows sorted by length within each pool of so many, and the number of windows of each batch."""
        n_windows = len(window_W)
        pool_W = torch.arange(n_windows) // per_pool
        key_W = pool_W * (self.max_length + 1) + size_W[window_W]
        window_W = window_W[torch.argsort(key_W, stable=True)]
        # Cut where a pool's running number of targets passes a multiple of an even shard, so that no batch is a rest.
        running_W = size_W[window_W].cumsum(0)
        stop_P = running_W[torch.arange(per_pool, n_windows + per_pool, per_pool).clamp(max=n_windows) - 1]
        targets_P = stop_P.diff(prepend=stop_P.new_zeros(1))
        batches_P = -(-targets_P // self.batch_size)
        within_W = running_W - (stop_P - targets_P)[pool_W]
        batch_W = (within_W - 1) * batches_P[pool_W] // targets_P[pool_W] + (batches_P.cumsum(0) - batches_P)[pool_W]
        return window_W, torch.unique_consecutive(batch_W, return_counts=True)[1]

    def epoch(self, number: int) -> Iterator[tuple[Interaction, int]]:
        generator = epoch_generator(self.seed, number)
        first_W, size_W = self._cut(generator)
        for window in self._batches(size_W, generator):
            own = window[self.shard]
            yield self._gather(first_W[own], size_W[own]), int(size_W[window].sum())

    def _gather(self, first_B: torch.Tensor, size_B: torch.Tensor) -> Interaction:
        """Returns the batch of windows that are given on the host."""
        width = int(size_B.max()) if len(size_B) else 0
        place_N = (torch.arange(width) < size_B[:, None]).flatten().nonzero().squeeze(1)
        first_B, size_B, place_N = to_device(self.device, first_B, size_B, place_N)
        position_L = torch.arange(width, device=self.device)
        within_BL = position_L < size_B[:, None]
        target_row_BL = (first_B[:, None] + position_L).clamp(max=len(self.items) - 1)
        return Interaction(
            {
                self.fields.item_seq: torch.where(within_BL, self.items[target_row_BL - 1], 0).long(),
                self.fields.item_seq_len: size_B,
                self.fields.item: torch.where(within_BL, self.items[target_row_BL], 0).long(),
                TARGET_PLACE: place_N,
            }
        )


class RecBoleLoader:
    """RecBole's own training loader for its non-sequential models, over the interactions of training.

    Args:
        config: RecBole's.
        dataset: the training part.
        device: where batches go.
    """

    def __init__(self, config: Any, dataset: SequenceDataset, device: torch.device) -> None:
        arguments, sampler, loader = config["train_neg_sample_args"], None, get_dataloader(config, "train")
        # Models of whole users draw no negatives, so that a user may have all items.
        if arguments["distribution"] != "none" and loader is not UserDataLoader:
            sampler = Sampler(["train"], [dataset], arguments["distribution"], arguments["alpha"]).set_phase("train")
        self.loader = loader(config, dataset, sampler, shuffle=config["shuffle"])
        self.seed, self.device = config["seed"], device
        self.n_targets = self.loader.sample_size
        # Rows a target: with negatives beside it, more than one.
        self.times = getattr(self.loader, "times", 1)

    def epoch(self, number: int) -> Iterator[tuple[Interaction, int]]:
        self.loader.generator.set_state(epoch_generator(self.seed, number).get_state())
        for batch in self.loader:
            yield batch.to(self.device), len(batch) // self.times


def crops(config: Any) -> bool:
    """Returns whether batches may be narrower than L: RecBole's own models may count on L columns."""
    return getattr(config["model_class"], "causal", False)


def make_train_loader(config: Any, dataset: SequenceDataset, split: Split, shard: slice = _WHOLE) -> TrainLoader:
    """Returns the training batches for a model, by its kind and the `train_mode`; or a shard of every batch.

    Raises:
        InputError: a kind of model that does not learn from interactions alone, or RecBole's sampler refuses the data.
    """
    try:
        return _make_train_loader(config, dataset, split, shard)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"data set {dataset.dataset_name!r}: {error}") from error


def _make_train_loader(config: Any, dataset: SequenceDataset, split: Split, shard: slice) -> TrainLoader:
    kind, device, fields = config["MODEL_TYPE"], config["device"], Fields.of(config)
    length, batch_size, seed, shuffle = (
        config[key] for key in ("MAX_ITEM_LIST_LENGTH", "train_batch_size", "seed", "shuffle")
    )
    if kind in (ModelType.GENERAL, ModelType.TRADITIONAL):
        return RecBoleLoader(config, dataset.training_part(split), device)
    if kind != ModelType.SEQUENTIAL:
        raise InputError(f"{config['model']} is a {kind.name.lower()} model; expected a sequential or a general one")
    if config["train_mode"] == "all_positions":
        return WindowLoader(dataset.sequences, split.train, length, batch_size, seed, fields, device, shuffle, shard)
    gatherer = prefix_gatherer(config, dataset, split.train)
    sampler, pointwise = None, config["MODEL_INPUT_TYPE"] == InputType.POINTWISE
    arguments = config["train_neg_sample_args"]
    if arguments["distribution"] != "none":
        if arguments["sample_num"] != 1 or config["MODEL_INPUT_TYPE"] not in (InputType.PAIRWISE, InputType.POINTWISE):
            raise InputError(f"{config['model']}: expected one sampled negative per target")
        _require_another_item(config, dataset)
        sampler = RepeatableSampler(
            ["train"], dataset.training_part(split), arguments["distribution"], arguments["alpha"]
        ).set_phase("train")
    transform = training_transform(config, dataset)
    return PrefixLoader(gatherer, fields, batch_size, seed, shuffle, sampler, pointwise, transform, shard)


def prefix_gatherer(
    config: Any, dataset: SequenceDataset, segments: Segments, device: torch.device | None = None
) -> PrefixGatherer:
    """Returns what makes a model's batches of prefixes, by default on the model's device."""
    return PrefixGatherer(
        dataset.sequences,
        segments,
        config["MAX_ITEM_LIST_LENGTH"],
        device or config["device"],
        crop=crops(config),
        beside=_beside_items(config, dataset),
    )


def _beside_items(config: Any, dataset: SequenceDataset) -> dict[str, np.ndarray]:
    """Returns the flat arrays that a model's sequences have beside the items, by their names in a batch.

    DIEN learns to tell each item of the history from another, drawn once for all (RecBole's `DIENDataset`).
    """
    if not is_recbole_model(config["model_class"], "DIEN"):
        return {}
    _require_another_item(config, dataset)
    items = dataset.sequences.items
    generator = np.random.default_rng(config["seed"])
    # Uniform over all items but the one in its place.
    other = generator.integers(1, dataset.item_num - 1, len(items), dtype=np.int32)
    other += other >= items
    return {config["NEG_PREFIX"] + Fields.of(config).item_seq: other}


def _require_another_item(config: Any, dataset: SequenceDataset) -> None:
    # RecBole's sampler would look for one for ever.
    if dataset.item_num < 3:  # with the padding
        raise InputError(f"data set {dataset.dataset_name!r}: has one item; {config['model']} needs another to draw")


def model_data(config: Any, dataset: SequenceDataset, split: Split) -> SequenceDataset:
    """Returns the data set that a model is built from: training's part, with what the model looks up in it.

    RecBole's FEARec looks for other samples of the same target, in an `inter_feat` of samples.
    """
    part = dataset.training_part(split)
    if is_recbole_model(config["model_class"], "FEARec"):
        gatherer = prefix_gatherer(config, dataset, split.train, torch.device("cpu"))
        part.inter_feat = PrefixTable(gatherer, Fields.of(config))
    return part

"""What was meant by a key that is none: by its letters, and by its meaning."""

import difflib
from collections.abc import Iterable

from mos_recbole.errors import nearest

_MEANT = {
    "learning_rate": "lr learn_rate base_lr init_lr",
    "lr_schedule": "lr_scheduler scheduler lr_scheduler_type lr_decay",
    "warmup": "warmup_ratio warmup_steps warm_up warmup_proportion num_warmup_steps",
    "train_batch_size": "batch_size bs batchsize train_bs",
    "eval_batch_size": "test_batch_size valid_batch_size",
    "epochs": "epoch n_epochs num_epochs max_epochs n_epoch",
    "embedding_size hidden_size": "emb_size embed_size embedding_dim emb_dim embed_dim dim latent_dim d_model factors",
    "hidden_size embedding_size": "hidden_dim hidden_units hid_size n_hidden num_hidden",
    "num_layers n_layers": "num_layers n_layers layers n_blocks num_blocks gru_layers",
    "n_heads": "num_heads n_head heads num_attention_heads attention_heads",
    "dropout_prob hidden_dropout_prob": "dropout drop_prob dropout_rate drop_rate dropout_p",
    "MAX_ITEM_LIST_LENGTH": "max_len maxlen max_length max_seq_length max_seq_len seq_length max_sequence_length",
    "learner": "optimizer optim",
    "weight_decay": "l2 l2_reg wd l2_weight",
    "stopping_step": "patience early_stop early_stopping early_stop_patience early_stopping_patience",
    "seed": "random_seed random_state",
    "clip_grad_norm": "grad_clip max_grad_norm gradient_clip clip_grad",
    "topk": "top_k ks cutoffs",
    "metrics": "metric eval_metrics",
    "valid_metric": "val_metric early_stop_metric",
    "loss_type": "loss loss_function criterion",
    "train_neg_sample_args": "neg_sampling negative_sample neg_sample_num num_negatives n_neg neg_num",
    "mos_heads": "n_components num_components n_mixtures",
}


def hint(key: str, known: Iterable[str]) -> str:
    """Returns which of the known keys was probably meant, as a question; or all of them, if few."""
    known = sorted(known)
    if (by_meaning := meant(key, known)) is not None:
        return f"did you mean {by_meaning}?"
    none_near = f"expected one of {', '.join(known)}" if len(known) < 9 else "no known key is near"
    return nearest(key, known) or none_near


def meant(key: str, known: Iterable[str]) -> str | None:
    """Returns the known key that has the meaning of another name."""
    candidates = next((keys.split() for keys, names in _MEANT.items() if key.lower() in names.split()), [])
    known = set(known)
    return next((candidate for candidate in candidates if candidate in known), None)


def misspelt(key: str, known: Iterable[str]) -> str | None:
    """Returns the known key of which a key is a misspelling: letters differ in case or nearly not at all."""
    if key[-1:].isdigit():  # learning_rate2 is another one
        return None
    by_lower = {one.lower(): one for one in sorted(known)}
    near = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.9)
    return by_lower[near[0]] if near else None

"""What RecBole's models need of the data and the settings beyond interactions, said before they fail for want of it."""

import math
from collections.abc import Iterator
from typing import Any

from recbole.data.dataset import Dataset

from mos_recbole.compat import is_recbole_model


def requirement_faults(config: Any, dataset: Dataset) -> list[str]:
    """Returns what stands against building the model from these data, one sentence each; RecBole would raise KeyError,
    RuntimeError and the like from its depths, or never come back.

    Args:
        config: RecBole's.
        dataset: as the model will see it.
    """
    return list(_faults(config, dataset))


def _faults(config: Any, dataset: Dataset) -> Iterator[str]:
    def is_a(*names: str) -> bool:
        return is_recbole_model(config["model_class"], *names)

    def encodes_as(name: str) -> bool:
        return is_a(name) or _encoder(config) == name

    name, n_items = config["model"], dataset.item_num - 1
    length = config["MAX_ITEM_LIST_LENGTH"]
    if is_a("FDSA", "GRU4RecF", "SASRecF"):
        yield from _missing_features(config, dataset, "selected_features", config["selected_features"])
    if is_a("S3Rec"):
        yield from _missing_features(config, dataset, "item_attribute", [config["item_attribute"]])
    if is_a("GRU4RecKG", "KSR"):
        width = "kg_embedding_size" if is_a("KSR") else "embedding_size"
        for field in ("ent_id", "rel_id") if is_a("KSR") else ("ent_id",):
            yield from _missing_vectors(config, dataset, field, width)
    if is_a("GRU4RecCPR", "SASRecCPR"):
        largest = max(int(size) for size in str(config["reranker_CAN_NUM"]).split(","))
        if largest > n_items:
            yield f"{name}: reranker_CAN_NUM is {largest}; expected at most the number of items, {n_items}"
    if is_a("NCL") and config["num_clusters"] > min(dataset.user_num, dataset.item_num) - 1:
        most = min(dataset.user_num, dataset.item_num) - 1
        yield f"{name}: num_clusters is {config['num_clusters']}; expected at most {most}, of users and of items"
    if is_a("RaCT") and config["metrics_k"] > n_items:
        yield f"{name}: metrics_k is {config['metrics_k']}; expected at most the number of items, {n_items}"
    if encodes_as("FEARec"):
        if int(config["topk_factor"] * math.log(length)) < 1:
            yield (
                f"{name}: topk_factor {config['topk_factor']} times the logarithm of MAX_ITEM_LIST_LENGTH {length} is "
                "less than 1; expected 1 or more"
            )
        if config["n_layers"] < 2:
            yield f"{name}: n_layers is {config['n_layers']}; expected 2 or more, which share the frequencies"
    if encodes_as("SINE") and config["interest_size"] > config["prototype_size"]:
        yield (
            f"{name}: interest_size is {config['interest_size']}; expected at most prototype_size, "
            f"{config['prototype_size']}, of which the interests are chosen"
        )
    if is_a("BERT4Rec") and int(config["mask_ratio"] * length) < 1:
        yield (
            f"{name}: mask_ratio {config['mask_ratio']} of MAX_ITEM_LIST_LENGTH {length} is less than one item; "
            "expected at least one"
        )
    if is_a("BERT4Rec", "S3Rec") and n_items <= length:
        yield (
            f"{name} draws items that are not in a sequence: MAX_ITEM_LIST_LENGTH is {length}; "
            f"expected less than the number of items, {n_items}"
        )


def _encoder(config: Any) -> str | None:
    """Returns the name of the encoder of a model that is one with a head."""
    entry = getattr(config["model_class"], "encoder_spec", None)
    return None if entry is None else entry.name


def _missing_features(config: Any, dataset: Dataset, setting: str, names: list[str]) -> Iterator[str]:
    loaded = [] if dataset.item_feat is None else list(dataset.item_feat.columns)
    features = [column for column in loaded if column != dataset.iid_field]
    for missing in (name for name in names if name not in features):
        has = f"has {', '.join(features)}" if features else "has no features of items loaded"
        yield (
            f"{config['model']}: {setting} names {missing!r}, and data set {dataset.dataset_name!r} {has}; expected a "
            f"column of {dataset.dataset_name}.item, loaded by load_col, such as "
            f"'--load_col={{item: [{dataset.iid_field}, {missing}]}}'"
        )
    floats = config["numerical_features"] if setting == "selected_features" else []
    for name in (name for name in names if name in features):
        kind = dataset.field2type[name].value
        if kind == "float_seq" or (kind == "float" and name not in floats):
            expected = "a column of names (token or token_seq)"
            if kind == "float" and setting == "selected_features":
                expected += f", or numbers (float) that numerical_features names too: '--numerical_features=[{name}]'"
            yield f"{config['model']}: {setting} names {name!r}, a column of type {kind}; expected {expected}"


def _missing_vectors(config: Any, dataset: Dataset, field: str, width: str) -> Iterator[str]:
    value = field.removesuffix("_id") + "_emb"
    weights = dataset._preloaded_weight
    if field not in weights:
        yield (
            f"{config['model']}: preload_weight has no {field!r}; expected {{{field}: {value}}}, the columns "
            f"{field}:token and {value}:float_seq of {dataset.dataset_name}.{field.removesuffix('_id')}"
        )
    elif weights[field].shape[1:] != (config[width],):
        found = weights[field].shape[1] if weights[field].ndim == 2 else 1
        yield f"{config['model']}: {width} is {config[width]}; expected {found}, the length of the vectors {value}"

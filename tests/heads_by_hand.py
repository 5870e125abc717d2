"""The formulas of the output heads in NumPy, context by context and item by item, from a head's own parameters."""

from collections.abc import Callable

import numpy as np

from mos_recbole.heads import (
    CosineHead,
    DnDHead,
    DOCHead,
    MixtapeHead,
    MoCHead,
    MoLHead,
    MoSHead,
    MoSSHead,
    OutputHead,
    SigsoftmaxHead,
    SoftmaxHead,
)


def number(tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    exp = np.exp(x - x.max())
    return exp / exp.sum()


def sigsoftmax(x: np.ndarray) -> np.ndarray:
    exp = np.exp(x) * sigmoid(x)
    return exp / exp.sum()


def length_one(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum())


def limited(head, z: np.ndarray) -> np.ndarray:
    """Returns A B z of a head with an output rank, z of one without."""
    maps = [number(one.weight) for one in head.rank_limit.children()]
    return maps[1] @ (maps[0] @ z) if maps else z


def projected(head, h: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    rows, d = number(head.projection.weight), len(h)
    vectors = [limited(head, np.tanh(rows[k * d : (k + 1) * d] @ h)) for k in range(len(rows) // d)]
    return vectors, softmax(number(head.prior.weight) @ h)


def of_softmax(head, h, items, bias):
    return softmax(items @ limited(head, h) + bias)


def of_cosine(head, h, items, bias):
    cosines = np.array([length_one(h) @ length_one(w) for w in items])
    return softmax(cosines / np.exp(number(head.log_temperature)) + bias)


def of_mos(head, h, items, bias):
    vectors, weights = projected(head, h)
    return sum(weight * softmax(items @ vector + bias) for vector, weight in zip(vectors, weights, strict=True))


def of_moc(head, h, items, bias):
    vectors, weights = projected(head, h)
    context = sum(weight * vector for vector, weight in zip(vectors, weights, strict=True))
    return softmax(items @ context + bias)


def of_sigsoftmax(head, h, items, bias):
    return sigsoftmax(items @ h + bias)


def of_moss(head, h, items, bias):
    vectors, weights = projected(head, h)
    return sum(weight * sigsoftmax(items @ vector + bias) for vector, weight in zip(vectors, weights, strict=True))


def of_doc(head, layers, items, bias):
    d = items.shape[1]
    vectors = []
    for layer, projection in head.projections.items():
        rows = number(projection.weight)
        vectors += [np.tanh(rows[start : start + d] @ layers[int(layer)]) for start in range(0, len(rows), d)]
    weights = softmax(number(head.prior.weight) @ layers[-1])
    return sum(weight * softmax(items @ vector + bias) for vector, weight in zip(vectors, weights, strict=True))


def of_mixtape(head, h, items, bias):
    """With four components: the weights are the paper's products of three gates."""
    d, e = len(h), head.gate_size
    rows, gates, own = number(head.projection.weight), number(head.gate.weight), number(head.item_gate)
    offsets, own_offsets = number(head.gate_bias.weight), number(head.item_gate_bias)
    logits = []
    for v, w in enumerate(items):
        left = [
            sigmoid(own[v] @ np.tanh(gates[j * e : (j + 1) * e] @ h) + offsets[j] @ h + own_offsets[v, j])
            for j in range(3)
        ]
        weights = [
            left[0] * left[1],
            left[0] * (1 - left[1]),
            (1 - left[0]) * left[2],
            (1 - left[0]) * (1 - left[2]),
        ]
        logits.append(sum(weights[k] * (np.tanh(rows[k * d : (k + 1) * d] @ h) @ w) for k in range(4)) + bias[v])
    return softmax(np.array(logits))


def of_mol(head, h, items, bias):
    def linear(module, x):
        return number(module.weight) @ x + (0 if module.bias is None else number(module.bias))

    def silu(x):
        return x * sigmoid(x)

    def gate(module, x):
        return linear(module.output, silu(linear(module.hidden, x)))

    query = linear(head.query_projection, h).reshape(-1, head.vector_size)
    logits = []
    for v, w in enumerate(items):
        item = linear(head.item_projection, w).reshape(-1, head.vector_size)
        pairs = np.array([length_one(one) @ length_one(other) for one in query for other in item]) / head.temperature
        weights = softmax(silu(gate(head.query_gate, h) * gate(head.item_gate, w) + gate(head.pair_gate, pairs)))
        logits.append(weights @ pairs + bias[v])
    return softmax(np.array(logits))


def of_dnd(head, h, items, bias):
    decoupling = number(head.decoupling.weight)
    return softmax(np.array([h @ (decoupling @ w) for w in items]) + bias)


LAYERS = 3
# Small heads of every kind, by names of the tests.
MAKERS: dict[str, Callable[..., OutputHead]] = {
    "softmax": SoftmaxHead,
    "softmax, rank 2": lambda *args, **kwargs: SoftmaxHead(*args, output_rank=2 * (args[1] > 2), **kwargs),
    "cosine": CosineHead,
    "cosine, learned": lambda *args, **kwargs: CosineHead(*args, learned=True, **kwargs),
    "mos": lambda *args, **kwargs: MoSHead(*args, n_components=3, **kwargs),
    "mos, rank 2": lambda *args, **kwargs: MoSHead(*args, n_components=3, output_rank=2 * (args[1] > 2), **kwargs),
    "moc": lambda *args, **kwargs: MoCHead(*args, n_components=3, **kwargs),
    "moc, rank 2": lambda *args, **kwargs: MoCHead(*args, n_components=3, output_rank=2 * (args[1] > 2), **kwargs),
    "sigsoftmax": SigsoftmaxHead,
    "moss": lambda *args, **kwargs: MoSSHead(*args, n_components=3, **kwargs),
    "doc": lambda *args, **kwargs: DOCHead(*args, n_layers=LAYERS, components_of_layers=[1, 2], **kwargs),
    "mixtape": lambda *args, **kwargs: MixtapeHead(*args, n_components=4, gate_size=3, **kwargs),
    "mol": lambda *args, **kwargs: MoLHead(
        *args, query_vectors=2, item_vectors=3, vector_size=4, gate_size=5, pair_gate_size=7, **kwargs
    ),
    "dnd": DnDHead,
}

FORMULAS: dict[type[OutputHead], Callable] = {
    SoftmaxHead: of_softmax,
    CosineHead: of_cosine,
    MoSHead: of_mos,
    MoCHead: of_moc,
    SigsoftmaxHead: of_sigsoftmax,
    MoSSHead: of_moss,
    DOCHead: of_doc,
    MixtapeHead: of_mixtape,
    MoLHead: of_mol,
    DnDHead: of_dnd,
}


def log_prob_by_hand(head: OutputHead, states, items) -> np.ndarray:
    """Returns the log-probabilities [N, V] of states and an item table, float64."""
    formula, items = FORMULAS[type(head)], number(items)
    bias = np.zeros(len(items)) if head.item_bias is None else number(head.item_bias)
    return np.log(np.stack([formula(head, h, items, bias) for h in number(states)]))

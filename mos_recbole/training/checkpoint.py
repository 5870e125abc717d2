"""Checkpoints that `torch.load(weights_only=True)` reads: tensors, numbers, text, lists and dictionaries only."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from mos_recbole.errors import InputError
from mos_recbole.io import RUN_AGAIN, check_seal, damaged, say_unsealed, sealed_write

_FORMAT = "mos_recbole checkpoint 2"
# Of earlier versions, without a checksum.
_UNSEALED_FORMAT = "mos_recbole checkpoint 1"


def save_checkpoint(path: Path, run_id: str, model: str, state: dict[str, Any]) -> None:
    """Writes a checkpoint atomically, with its checksum at the end.

    Args:
        path: of the file.
        run_id, model: whose checkpoint it is.
        state: may hold NumPy arrays and SciPy matrices beside what PyTorch's restricted loader reads.

    Raises:
        TypeError: the state holds something else.
        DiskFull: there is no room for it; a checkpoint that was there before still is.
    """
    with sealed_write(path) as file:
        torch.save({"format": _FORMAT, "run_id": run_id, "model": model, "state": _pack(state)}, file)


def load_checkpoint(path: Path, run_id: str | None, model: str, device: torch.device | str) -> dict[str, Any]:
    """Returns the state of a checkpoint.

    Args:
        path: of the file.
        run_id: of the run that it must belong to; None for any run of the model.
        model: that it must belong to.
        device: where the tensors go.

    Raises:
        InputError: the file is missing, damaged, something else, or of another model or run.
    """
    try:
        sealed = check_seal(path)
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a checkpoint") from None
    except InputError:
        raise
    except Exception as error:  # on arbitrary bytes, PyTorch's restricted unpickler fails in arbitrary ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: a truncated checkpoint, or none ({reason}); expected {RUN_AGAIN}") from error
    if not isinstance(content, dict) or content.get("format") not in (_FORMAT, _UNSEALED_FORMAT):
        raise InputError(f"{path}: no checkpoint of this program")
    if not sealed:
        if content["format"] == _FORMAT:
            raise damaged(path)
        say_unsealed(path)
    if content["model"] != model:
        raise InputError(f"{path}: a checkpoint of {content['model']}; expected one of {model}")
    if run_id is not None and content["run_id"] != run_id:
        raise InputError(f"{path}: a checkpoint of run {content['run_id']}; expected one of {run_id}")
    return _unpack(content["state"])


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns the states of all sources of random numbers that a model on this device may draw from."""
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - RecBole draws from it
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(kind), keys, int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Sets what `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def _pack(value: Any) -> Any:
    """Returns the value with arrays as marked tensors."""
    if sparse.issparse(value):
        matrix = sparse.csr_array(value)
        parts = [matrix.data, matrix.indices, matrix.indptr]
        return {"__scipy__": [torch.from_numpy(part) for part in parts], "shape": list(matrix.shape)}
    if isinstance(value, np.ndarray):
        unsigned = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}.get(value.dtype.name)
        array = value if unsigned is None else value.astype(unsigned)
        return {"__numpy__": torch.from_numpy(np.array(array)), "dtype": value.dtype.name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if "__scipy__" in value:
            data, indices, indptr = (part.cpu().numpy() for part in value["__scipy__"])
            return sparse.csr_matrix((data, indices, indptr), shape=tuple(value["shape"]))
        if "__numpy__" in value:
            return value["__numpy__"].cpu().numpy().astype(value["dtype"])
        return {key: _unpack(item) for key, item in value.items()}
    return [_unpack(item) for item in value] if isinstance(value, list) else value

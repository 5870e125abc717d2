"""Compiles the Triton kernels for GPUs that need not be there and prints, one JSON line each, what they take.

    python compile_kernels.py [bfloat16 | tf32 | ieee] [width] [compute capability] [bias | none]

For a process of its own: in one that has set TRITON_INTERPRET the kernels cannot be compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from mos_recbole.losses import triton_kernels
from mos_recbole.losses.triton_mixture import kernel_constants

# With the constants of each beyond those that all of them have.
KERNELS: list[tuple[Any, dict[str, Any]]] = [
    (triton_kernels.normalise, {}),
    (triton_kernels.components_gradient, {}),
    (triton_kernels.weight_gradient, {}),
    (triton_kernels.count_better, {"ONE_COMPONENT": False, "HAS_SEEN": True, "WITH_SCORES": True, "SPAN": 1024}),
    (
        triton_kernels.count_better,
        # A whole number that is 1 is a constant for Triton.
        {"ONE_COMPONENT": True, "HAS_SEEN": False, "WITH_SCORES": False, "SPAN": 1024, "n_components": 1},
    ),
]
# Arguments that are tensors: of the factors' type, of whole numbers; the others are float32.
FACTORS = ("rows", "weight", "rows_gradient", "items_gradient")
WHOLE = {"target": "*i64", "ruled_out": "*u8", "seen": "*u8", "better": "*i32", "tied": "*i32"}


def resources(kernel: Any, dtype: torch.dtype, constants: dict[str, Any], capability: int) -> dict[str, Any]:
    """Returns registers and spilled bytes a thread, and shared memory a program in KiB, of a compiled kernel."""
    factor = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}[dtype]
    options = {"num_warps": constants["num_warps"]}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature, attributes = {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.startswith("n_"):
            signature[name] = "i32"
        else:
            signature[name] = factor if name in FACTORS else WHOLE.get(name, "*fp32")
            # As of all tensors that PyTorch allocates.
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    # The assembler again, to be told what it otherwise keeps to itself.
    assembler = get_ptxas(capability).path
    architecture = re.search(r"\.target (\w+)", compiled.asm["ptx"])
    assert architecture is not None
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(compiled.asm["ptx"])
        file.flush()
        command = [assembler, "--verbose", "--gpu-name", architecture[1], file.name, "--output-file", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = re.search(r"Used (\d+) registers", said), re.search(r"(\d+) bytes spill stores", said)
    assert registers is not None, said
    assert spilled is not None, said
    return {
        "kernel": kernel.__name__,
        "registers": int(registers[1]),
        "spilled": int(spilled[1]),
        "shared_KiB": compiled.metadata.shared / 1024,
        "tensor_cores": "mma" in compiled.asm["ptx"],
    }


def main(operands: str, width: int, capability: int, bias: str) -> None:
    dtype, precision = (torch.bfloat16, "ieee") if operands == "bfloat16" else (torch.float32, operands)
    constants = kernel_constants(dtype, width, bias == "bias", precision)
    if bias == "none":
        constants |= {"bias": None, "bias_gradient": None}
    for kernel, further in KERNELS:
        found = resources(kernel, dtype, constants | further, capability)
        print(json.dumps({"operands": operands, "width": width, "capability": capability, "bias": bias, **found}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

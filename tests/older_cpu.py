"""Child processes that take this x86 CPU for one of 2008: no vector unit newer than SSE 4.1."""

import os
import platform
import sys

import numpy as np
import pytest

needed = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the variables are those of x86 under Linux"
)


def variables():
    """Environment variables for a child process; whatever has kernels by CPU takes its oldest.

    numpy is told which of its kernels to leave out, and refuses names of which this CPU has none, so they are asked.
    """
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    kernels = dict.fromkeys([*os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split(), *found])
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(kernels),
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        # MKL reads the first on Intel's own CPUs only, the second on all.
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBILITY",
        # Unsloth's own answer to whether the CPU computes in bfloat16.
        "UNSLOTH_CPU_BF16": "0",
    }


if __name__ == "__main__":
    # `python tests/older_cpu.py ARGUMENTS` is `python ARGUMENTS` on an older CPU.
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], {**os.environ, **variables()})

"""The SIMD width that the kernels are generated for: the host's, or the one that ``NBCNN_SIMD`` asks for.

Numba's setting ``NUMBA_CPU_FEATURES`` counts as the host's features, so that another processor can be stood in for.
``NBCNN_SIMD`` may be 512 (AVX-512), 256 (AVX2) or 128 (SSE, NEON and anything else), in bits; never more than the
host has. It is read once, when the first kernel module is imported: a process runs one width.
"""

from __future__ import annotations

import os

import numba
from llvmlite import binding

__all__ = ["BYTE_PRODUCTS", "BYTE_TABLES", "HALVES_PAY", "REGISTERS", "WIDTH_BYTES", "host_width"]


def _features() -> dict[str, bool]:
    """What the code generator may use: the host's features, or those that Numba's own setting allows."""
    if numba.config.CPU_FEATURES is None:
        return dict(binding.get_host_cpu_features())
    return {name[1:]: name.startswith("+") for name in numba.config.CPU_FEATURES.split(",") if name}


def host_width() -> int:
    """The widest SIMD registers, in bytes, that this processor computes with at full speed."""
    features = _features()
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512dq"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 16


def _chosen_width() -> int:
    asked = os.environ.get("NBCNN_SIMD", "")
    host = host_width()
    if not asked:
        return host
    if asked not in ("128", "256", "512") or int(asked) // 8 > host:
        raise ValueError(f"NBCNN_SIMD={asked!r}: this machine runs 128 up to {host * 8} (bits, powers of two)")
    return int(asked) // 8


WIDTH_BYTES: int = _chosen_width()
REGISTERS: int = 32 if host_width() == 64 else 16
"""How many vector registers there are (AVX-512 has 32, at its narrower widths too)."""
HALVES_PAY: bool = WIDTH_BYTES == 64 and (numba.config.CPU_NAME or binding.get_host_cpu_name()) == "znver4"
"""Whether half a register takes half as long: Zen 4 computes with 64 bytes in two steps, others in one."""


def _has_byte_products() -> bool:
    """Whether one instruction sums four products of bytes, at this width."""
    features = _features()
    wide = bool(features.get("avx512vnni")) and (WIDTH_BYTES == 64 or bool(features.get("avx512vl")))
    return wide or (bool(features.get("avxvnni")) and WIDTH_BYTES < 64)


BYTE_PRODUCTS: bool = _has_byte_products()
"""VPDPBUSD, of AVX-512 VNNI or AVX-VNNI."""
BYTE_TABLES: bool = WIDTH_BYTES == 64 and bool(_features().get("avx512vbmi"))
"""VPERMI2B, of AVX-512 VBMI."""

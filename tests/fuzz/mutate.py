"""Damage by seed: to bytes, and to trees of plain values."""

import copy
import math
import struct
from random import Random
from typing import Any

LARGE = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
LONG = "x" * 10**5


def pool(random: Random) -> Any:
    """A value that seldom fits."""
    deep: Any = 1
    for _ in range(random.choice((3, 40, 200))):
        deep = [deep]
    return random.choice(
        (
            *(None, True, False, 0, 1, -1, 3, 10**4, 10**7, 10**8, 2**31, 2**63, 2**64, 10**30),
            *(0.0, 0.5, -1.5, 1e300, 1e-300, math.inf, -math.inf, math.nan),
            *("", "x", "0", "true", "gelu", "../../etc/passwd", "/dev/zero", "~nobody/x", "a\0b"),
            *("\x1b[2J\x1b]0;x\x07", "\u202egnp.exe", "\u200b", "\ud800", "http://[::1", LONG),
            *([], {}, [[]], [0], [1, 2], ["a"], [None], {"a": 1}, {"": {}}, [1] * 5000),
            *("kernels-community/flash-attn2", "evil--evil.Evil", "nn.GELU", "import os"),
            deep,
        )
    )


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a tree."""
    found = [at] if at else []
    if isinstance(tree, dict):
        return found + [p for k, v in tree.items() for p in places(v, (*at, k))]
    if isinstance(tree, list):
        return found + [p for i, v in enumerate(tree[:8]) for p in places(v, (*at, i))]
    return found


def tree(random: Random, whole: Any) -> tuple[str, Any]:
    """A copy of a tree with one to three values changed; what was done, and the tree."""
    if random.random() < 0.03:
        return "another top", pool(random)
    whole = copy.deepcopy(whole)
    done = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        paths = places(whole)
        if not paths:
            break
        *above, last = random.choice(paths)
        holder = whole
        for key in above:
            holder = holder[key]
        way = random.choice(("other", "other", "other", "remove", "add", "swap", "near"))
        if way == "remove":
            del holder[last]
        elif way == "add" and isinstance(holder, dict):
            holder[str(random.choice((*_ADDED, LONG[:300])))] = pool(random)
        elif way == "swap":
            other = random.choice(paths)
            value: Any = whole
            try:
                for key in other:
                    value = value[key]
            except (KeyError, IndexError, TypeError):
                continue
            holder[last] = copy.deepcopy(value)
        elif way == "near" and isinstance(holder[last], int | float):
            holder[last] = type(holder[last])(holder[last] * random.choice((0, -1, 2, 1.5)) + 1)
        else:
            holder[last] = pool(random)
        done.append(f"{way} {'.'.join(map(str, (*above, last)))[:60]}")
    return "; ".join(done), whole


_ADDED = (
    *("auto_map", "_attn_implementation", "attn_implementation", "checkpoint_path", "pretrained"),
    *("backbone", "use_pretrained_backbone", "quantization_config", "__class__", "x", "\x1b[31m"),
    *("pretrained_cfg", "kernel_config", "device", "dtype", "model_type", "trust_remote_code"),
)


def damaged(random: Random, whole: bytes, other: bytes = b"") -> tuple[str, bytes]:
    """Bytes with one kind of damage; what was done, and the bytes."""
    held = bytearray(whole)
    size = len(held)
    at = random.randrange(size) if size else 0
    ways = ("bit", "bit", "byte", "cut", "remove", "repeat", "insert", "number", "zeros", "splice")
    way = random.choice(ways)
    if way == "bit":
        for _ in range(random.choice((1, 1, 1, 2, 8))):
            held[random.randrange(size)] ^= 1 << random.randrange(8)
    elif way == "byte":
        held[at] = random.randrange(256)
    elif way == "cut":
        del held[at:]
    elif way == "remove":
        del held[at : at + random.choice((1, 2, 8, 64))]
    elif way == "repeat":
        held[at:at] = held[at : at + random.choice((1, 8, 64))]
    elif way == "insert":
        held[at:at] = random.randbytes(random.choice((1, 4, 64)))
    elif way == "number":
        kind = random.choice(("<H", "<I", "<Q", ">I"))
        value = random.choice(LARGE) % (1 << (8 * struct.calcsize(kind)))
        held[at : at + struct.calcsize(kind)] = struct.pack(kind, value)
    elif way == "zeros":
        held[at : at + 64] = bytes(min(64, size - at))
    else:
        held[at:] = other[random.randrange(len(other)) :] if other else b""
    return f"{way} at {at} of {size}", bytes(held)

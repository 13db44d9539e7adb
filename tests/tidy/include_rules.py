"""Which folder may include what: the arrows between kvtier's parts, as data.

    client -> proto <- daemon -> kernels (optional) -> tiering <- sim
    inside tiering: base <- {block, memory, share, topology, codec} <- predict <- {plan, bound} <- move <- engine

`host` stands beside tiering's core: the one part of it that may know threads, clocks and devices.
"""

import re

from tree import code_lines

_INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')

_BASE = ("proto/wire", "tiering/base")
_STATE = _BASE + ("tiering/block", "tiering/memory", "tiering/share", "tiering/topology",
                  "tiering/codec")
_PREDICT = _STATE + ("tiering/predict",)
_PLAN = _PREDICT + ("tiering/plan", "tiering/bound")
_MOVE = _PLAN + ("tiering/move",)
_CORE = _MOVE + ("tiering/engine",)
_TIERING = _CORE + ("tiering/host",)

# folder -> what of kvtier it may include. The longest matching folder counts; `pb` is generated code,
# `api` the client's public headers.
ALLOWED = {
    "proto/wire": ("proto/wire",),
    "proto/yaml": ("proto/yaml", "tiering/base"),
    "tiering/base": _BASE,
    "tiering/block": _STATE,
    "tiering/memory": _STATE,
    "tiering/share": _BASE + ("tiering/share",),
    "tiering/topology": _STATE,
    "tiering/codec": _STATE,
    "tiering/predict": _PREDICT,
    "tiering/plan": _PLAN,
    "tiering/bound": _PLAN,
    "tiering/move": _MOVE,
    "tiering/engine": _CORE,
    "tiering/host": _TIERING,
    "tiering": _CORE,
    "kernels": _TIERING + ("kernels",),
    "daemon": _TIERING + ("kernels", "daemon", "proto", "proto/yaml", "pb"),
    "client": ("client", "api", "proto", "proto/wire", "pb"),
    "client/include": ("api",),
    "client/python": ("client/python", "api"),
    "client/gpu": ("client", "api", "proto", "proto/wire", "pb", "kernels"),
    "sim": _CORE + ("proto/yaml", "sim"),
}
# Programs may link, and so include, anything of kvtier.
PROGRAMS = ("daemon/main.cc", "client/cli/", "client/examples/", "bench/", "tests/")

# Folders that see, beside kvtier, the standard library and these only.
PURE = {
    "proto/wire": ("absl/", "openssl/", "xxhash.h", "immintrin.h", "stddef.h", "stdint.h", "stdlib.h"),
    "tiering": ("absl/",),
    "client/include": ("absl/",),
}
# Standard and Abseil headers that bring threads, locks, time or chance, and the files that may have them.
_IMPURE = re.compile(
    r"^(thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token|chrono"
    r"|ctime|random|filesystem|fstream|absl/synchronization/.*|absl/time/clock\.h|absl/random/.*)$")
IMPURE_ALLOWED = {
    "tiering/base/mutex.h": ("mutex", "condition_variable"),
    "tiering/base/clock.h": ("chrono", "absl/time/clock.h"),
    "tiering/base/clock.cc": ("chrono", "absl/time/clock.h"),
    "tiering/base/rng.h": ("random",),
}
_CUDA = re.compile(r"^(cuda|nccl|nvtx3/|nvToolsExt|cub/|thrust/|cooperative_groups|driver_types\.h|nvml)")
CUDA_FOLDERS = ("kernels/", "tests/unit/kernels/", "tests/gpu/", "bench/")
_PYTHON = re.compile(r"^(pybind11/|Python\.h$)")
_RPC = re.compile(r"^(grpc|google/protobuf|.*\.pb\.h$)")


def _folder(path, folders):
    matching = [f for f in folders if path.startswith(f + "/")]
    return max(matching, key=len) if matching else None


def _own_kind(header):
    """The part of kvtier that a header belongs to, or None if it is somebody else's."""
    if re.match(r"^(proto/)?kvtier/v1/.*\.pb\.h$", header):
        return "pb"
    if header.startswith(("client/include/", "kvtier/")):
        return "api"
    return _folder(header, ("proto", "proto/wire", "proto/yaml", "daemon", "client", "client/gpu", "client/python", "kernels", "sim",
                            "bench", "tests", "tiering") + _TIERING)


def _external_problem(path, header):
    """Why a file may not include somebody else's header, or None."""
    if _CUDA.match(header) and not path.startswith(CUDA_FOLDERS):
        return "only kernels/ includes CUDA and NCCL"
    if _PYTHON.match(header) and not path.startswith("client/python/"):
        return "only client/python/ includes Python"
    if _RPC.match(header) and path.startswith(("tiering/", "sim/", "kernels/", "client/include/", "client/python/")):
        return "no gRPC and no protobuf here"
    core = path.startswith("tiering/") and not path.startswith("tiering/host/")
    if core and _IMPURE.match(header) and header not in IMPURE_ALLOWED.get(path, ()):
        return "the deterministic core has no threads, locks, clock, chance or files"
    pure = _folder(path, PURE)
    if pure and not path.startswith("tiering/host/"):
        standard = "." not in header and "/" not in header
        if not standard and not header.startswith(PURE[pure]):
            return f"{pure}/ includes the standard library and {', '.join(PURE[pure])} only"
    return None


def check(tree):
    problems = []
    for path in tree.files((".h", ".cc", ".cu")):
        program = path.startswith(PROGRAMS)
        folder = _folder(path, ALLOWED)
        for number, line in code_lines(tree.read(path)):
            match = _INCLUDE.match(line)
            if not match:
                continue
            quote, header = match.groups()
            own = _own_kind(header)
            reason = None
            if own is None:
                beside = path.rsplit("/", 1)[0] + "/" + header
                if quote == '"' and tree.exists(beside):
                    reason = "includes start at the repository root"
                else:
                    reason = _external_problem(path, header)
            elif not program and folder and own not in ALLOWED[folder]:
                reason = f"{folder}/ may not include {own}"
            if reason:
                problems.append(f"{path}:{number}: #include {header}: {reason}")
    return problems

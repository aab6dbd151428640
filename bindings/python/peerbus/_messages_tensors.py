"""Tensors in stream samples: element types, arrays in, arrays out.

NumPy and PyTorch are imported only when a tensor is read or written, and a
value is compared with their classes only if the program has imported them: an
object of a library that is not loaded cannot exist.
"""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from ._messages_gzip import compress, decompress
from ._messages_limits import Budget, DecodeError

#: Dimensions of a tensor; what every NumPy takes.
MAX_DIMENSIONS = 32
#: Largest single dimension: the schema says int32.
MAX_DIMENSION = 2**31 - 1

#: What content gives tensors as; see Msg.from_bytes.
TENSOR_KINDS = ("auto", "numpy", "torch")


class ElementType(NamedTuple):
    """An element type that may travel. ``numpy_code`` is None where NumPy has
    no such type of its own."""

    name: str
    size: int
    numpy_code: Optional[str]


#: Names from the wire are looked up here and used for nothing else. They are
#: the names that NumPy and PyTorch agree on, plus those only PyTorch has.
ELEMENT_TYPES = {
    t.name: t
    for t in (
        ElementType("bool", 1, "|u1"),
        ElementType("uint8", 1, "|u1"),
        ElementType("int8", 1, "|i1"),
        ElementType("uint16", 2, "<u2"),
        ElementType("int16", 2, "<i2"),
        ElementType("uint32", 4, "<u4"),
        ElementType("int32", 4, "<i4"),
        ElementType("uint64", 8, "<u8"),
        ElementType("int64", 8, "<i8"),
        ElementType("float16", 2, "<f2"),
        ElementType("float32", 4, "<f4"),
        ElementType("float64", 8, "<f8"),
        ElementType("complex64", 8, "<c8"),
        ElementType("complex128", 16, "<c16"),
        ElementType("bfloat16", 2, None),
        ElementType("float8_e4m3fn", 1, None),
        ElementType("float8_e5m2", 1, None),
        ElementType("float8_e4m3fnuz", 1, None),
        ElementType("float8_e5m2fnuz", 1, None),
    )
}

#: struct codes of the buffer protocol, in their native sizes.
_BUFFER_TYPES = {"?": "bool", "e": "float16", "f": "float32", "d": "float64"}
_BUFFER_TYPES.update((code, "int") for code in "bhilqn")
_BUFFER_TYPES.update((code, "uint") for code in "BHILQN")
_NATIVE_PREFIXES = "@=" + ("<" if sys.byteorder == "little" else ">")


class Encoded(NamedTuple):
    """A tensor as the schema holds it."""

    data: bytes
    dtype: str
    shape: Tuple[int, ...]


class _Flat(NamedTuple):
    """Elements in row-major order, little endian, as bytes."""

    data: memoryview
    dtype: str
    shape: Tuple[int, ...]


def encode_tensor(value: Any) -> Optional[Encoded]:
    """Encode a tensor, or return None if ``value`` is none.

    Takes NumPy arrays and scalars, PyTorch tensors on any device, objects with
    the buffer protocol (array.array, ctypes arrays, memoryview) and with
    DLPack. Contiguous little-endian data is compressed from where it lies;
    other layouts and byte orders are copied once. bytes and bytearray are not
    tensors. Raises TypeError for an element type or layout that cannot travel.
    """
    for flatten in _FLATTENERS:
        flat = flatten(value)
        if flat is not None:
            _check_outgoing_shape(flat.shape)
            return Encoded(compress(flat.data), flat.dtype, flat.shape)
    return None


def _check_outgoing_shape(shape: Sequence[int]) -> None:
    if len(shape) > MAX_DIMENSIONS or any(size > MAX_DIMENSION for size in shape):
        raise ValueError(
            f"tensor of shape {tuple(shape)}: at most {MAX_DIMENSIONS} dimensions "
            f"of at most {MAX_DIMENSION} elements can travel"
        )


def _flatten_torch(value: Any) -> Optional[_Flat]:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    name = str(value.dtype).rpartition(".")[2]
    if name not in ELEMENT_TYPES:
        raise TypeError(f"torch tensor of type {name} cannot travel; convert it first")
    if value.layout is not torch.strided or value.device.type == "meta":
        raise TypeError("only dense torch tensors that hold data can travel; use to_dense()")
    if sys.byteorder != "little":
        raise TypeError("torch tensors on a big-endian machine: convert to NumPy first")
    dense = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # As bytes, so that types that NumPy does not have pass through it.
    raw = dense.reshape(-1).view(torch.uint8).numpy()
    return _Flat(memoryview(raw), name, tuple(value.shape))


def _flatten_numpy(value: Any) -> Optional[_Flat]:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    if isinstance(value, numpy.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask; send filled() and the mask")
    array = numpy.asarray(value)
    name = array.dtype.name
    if name not in ELEMENT_TYPES:
        raise TypeError(f"NumPy array of type {array.dtype} cannot travel; convert it first")
    ordered = numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return _Flat(memoryview(ordered.reshape(-1).view("u1")), name, array.shape)


def _flatten_buffer(value: Any) -> Optional[_Flat]:
    if isinstance(value, (bytes, bytearray)):
        return None
    try:
        view = memoryview(value)
    except (TypeError, BufferError, ValueError):
        return None
    name = _buffer_type(view)
    if sys.byteorder != "little" and view.itemsize > 1:
        raise TypeError("buffers on a big-endian machine: convert to NumPy first")
    shape = tuple(view.shape or ())
    if not view.c_contiguous or view.nbytes == 0:
        view = memoryview(view.tobytes())
    return _Flat(_as_bytes(view), name, shape)


def _as_bytes(view: memoryview) -> memoryview:
    # A format with a prefix, as ctypes gives it, does not cast.
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        return memoryview(view.tobytes())


def _buffer_type(view: memoryview) -> str:
    code = view.format.lstrip(_NATIVE_PREFIXES) if view.itemsize > 1 else view.format[-1]
    kind = _BUFFER_TYPES.get(code)
    if kind is None:
        raise TypeError(f"buffer with elements of format {view.format!r} cannot travel")
    return kind + str(view.itemsize * 8) if kind.endswith("int") else kind


def _flatten_dlpack(value: Any) -> Optional[_Flat]:
    if not hasattr(value, "__dlpack__"):
        return None
    numpy = _import("numpy", TypeError)
    try:
        array = numpy.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        kind = type(value).__name__
        raise TypeError(f"{kind} gives no data by DLPack that NumPy takes: {error}") from error
    return _flatten_numpy(array)


_FLATTENERS: List[Callable[[Any], Optional[_Flat]]] = [
    _flatten_torch,
    _flatten_numpy,
    _flatten_buffer,
    _flatten_dlpack,
]


def decode_tensor(
    data: bytes, dtype: str, shape: Sequence[int], budget: Budget, kind: str
) -> Any:
    """Rebuild a tensor as a writable array of its own.

    ``kind`` is one of TENSOR_KINDS. Raises DecodeError if anything about it is
    wrong, before memory for it is taken.
    """
    element = ELEMENT_TYPES.get(dtype)
    if element is None:
        raise DecodeError(f"tensor of unknown element type {dtype[:40]!r}")
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise DecodeError(f"tensor of impossible shape {list(shape[:MAX_DIMENSIONS])}")
    # An empty tensor is charged by its other dimensions: their product must
    # fit too, or building the array fails.
    budget.take(math.prod(max(size, 1) for size in shape) * element.size, "tensor")
    raw = decompress(data, math.prod(shape) * element.size)
    if kind == "torch" or (kind == "auto" and "torch" in sys.modules):
        return _build_torch(raw, element, shape)
    return _build_numpy(raw, element, shape, budget)


def _build_numpy(
    raw: bytearray, element: ElementType, shape: Sequence[int], budget: Budget
) -> Any:
    numpy = _import("numpy", DecodeError)
    if element.name == "bfloat16":
        # The upper half of a float32: widening loses nothing.
        budget.take(2 * len(raw), "bfloat16 tensor as float32")
        return (numpy.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    if element.numpy_code is None:
        raise DecodeError(f'NumPy has no {element.name}; read it with tensors="torch"')
    flat = numpy.frombuffer(raw, element.numpy_code)
    if element.name == "bool":
        # A peer may send bytes that are neither 0 nor 1, which no bool may hold.
        flat = flat != 0
    return flat.reshape(shape)


def _build_torch(raw: bytearray, element: ElementType, shape: Sequence[int]) -> Any:
    torch = _import("torch", DecodeError)
    dtype = getattr(torch, element.name, None)
    if dtype is None:
        raise DecodeError(f'this PyTorch has no {element.name}; read it with tensors="numpy"')
    if not raw:
        return torch.empty(tuple(shape), dtype=dtype)
    if element.name == "bool":
        return torch.frombuffer(raw, dtype=torch.uint8).ne(0).reshape(tuple(shape))
    return torch.frombuffer(raw, dtype=dtype).reshape(tuple(shape))


def _import(name: str, error_class: Any) -> Any:
    # Not sys.modules: another thread may be half way through the import.
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise error_class(f"this tensor needs the package {name}: {error}") from error

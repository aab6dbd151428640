"""PyTorch tensors in stream samples."""

from __future__ import annotations

import subprocess
import sys

import numpy
import pytest

from peerbus.messages import DecodeError, Msg

# Larger than everything else together, so that no target installs it: the one thing that is skipped also with PEERBUS_NO_SKIPS.
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

DTYPES = [
    name
    for name in (
        "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "bfloat16", "complex64", "complex128",
        "float8_e4m3fn", "float8_e5m2",
    )
    if hasattr(torch, name)
]  # fmt: skip


def arrived(data, **options):
    message = Msg("alice", {"x": {"data": data}}, content_type=Msg.STREAM_SAMPLE)
    return Msg.from_bytes(message.to_bytes(), **options).content["x"]["data"]


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,), (2, 3)])
def test_tensor_of_each_type_and_shape_arrives(dtype, shape):
    size = 1
    for dimension in shape:
        size *= dimension
    wide = "complex64" if dtype.startswith("complex") else "float32"
    original = torch.arange(size, dtype=torch.float32).to(getattr(torch, wide))
    original = original.to(getattr(torch, dtype)).reshape(shape)
    data = arrived(original)
    assert (data.dtype, data.shape) == (original.dtype, original.shape)
    assert raw(data) == raw(original)


def test_tensor_that_is_not_contiguous_or_needs_a_gradient_arrives():
    original = torch.arange(6.0, requires_grad=True).reshape(2, 3).t()
    assert torch.equal(arrived(original), original.detach())


def test_conjugated_tensor_arrives_with_its_values():
    original = torch.tensor([1 + 2j]).conj()
    assert arrived(original).tolist() == [1 - 2j]


@pytest.mark.parametrize("tensor", [torch.zeros(2, 2).to_sparse(), torch.empty(2, device="meta")])
def test_tensor_without_dense_data_is_a_type_error(tensor):
    with pytest.raises(TypeError, match="dense"):
        arrived(tensor)


def test_reader_chooses_the_library():
    original = numpy.array([1.5, 2], "float32")
    assert isinstance(arrived(original), torch.Tensor)
    assert isinstance(arrived(original, tensors="torch"), torch.Tensor)
    assert isinstance(arrived(original, tensors="numpy"), numpy.ndarray)


def test_tensor_that_arrived_is_writable():
    data = arrived(torch.zeros(3))
    data += 1
    assert data.tolist() == [1, 1, 1]


def test_bool_that_is_neither_0_nor_1_reads_as_true():
    raw_bool = numpy.array([0, 1, 7], "uint8").view("bool")
    assert arrived(raw_bool).view(torch.uint8).tolist() == [0, 1, 1]


def test_type_that_this_pytorch_does_not_have_is_a_decode_error():
    if hasattr(torch, "uint64"):
        pytest.skip("this PyTorch has every type")
    with pytest.raises(DecodeError, match="uint64"):
        arrived(numpy.array([1], "uint64"), tensors="torch")


def test_program_without_pytorch_gets_numpy_and_does_not_load_it():
    program = (
        "import sys, numpy\n"
        "from peerbus.messages import Msg\n"
        "m = Msg('a', {'x': {'data': numpy.zeros(2)}}, content_type='stream_sample')\n"
        "print(type(Msg.from_bytes(m.to_bytes()).content['x']['data']).__name__)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["ndarray", "False"]

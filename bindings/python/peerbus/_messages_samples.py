"""Stream samples: tensors, pictures, texts and files by name (SPEC MSG-08, MSG-09)."""

from __future__ import annotations

import io
import sys
from typing import Any, Dict, Mapping

from . import _messages_schema
from ._messages_limits import Budget, DecodeError, DecodeLimits
from ._messages_tensors import decode_tensor, encode_tensor
from ._messages_wire import check_field_count

#: data_tag of a sample that was given none.
NO_TAG = -1
#: Type of a file that was given none (RFC 2046, 4.5.1).
DEFAULT_MIME_TYPE = "application/octet-stream"
#: zlib level of PNG files that are written: the fastest that compresses.
PNG_LEVEL = 1

#: StreamSampleContent.samples, its value, StreamSample.data, the payload, and
#: how many fields a sample needs at most, with room to spare.
_PATH_TO_PAYLOAD = (1, 2, 1, 1)
_FIELDS_PER_SAMPLE = 64


class FilePayload(Dict[str, Any]):
    """A received file: a dict with ``content`` (bytes), ``filename`` and
    ``mime_type``, each readable as an attribute too.

    The name comes from the peer: take no path from it without checking.
    """

    @property
    def content(self) -> bytes:
        return bytes(self["content"])

    @property
    def filename(self) -> str:
        return str(self["filename"])

    @property
    def mime_type(self) -> str:
        return str(self["mime_type"])


def encode_samples(samples: Any) -> bytes:
    """Encode ``{name: {"data", "data_tag", "data_uuid"}}`` as StreamSampleContent.

    A sample whose data is None is left out. Raises TypeError for data that is
    no tensor, picture, text or file.
    """
    if not isinstance(samples, Mapping):
        raise TypeError(f"stream_sample content is a dict of samples, not {_kind(samples)}")
    content = _messages_schema.load().StreamSampleContent()
    for name, sample in samples.items():
        if not isinstance(name, str) or not isinstance(sample, Mapping):
            raise TypeError(f"sample {name!r}: needs a str as name and a dict with data")
        if sample.get("data") is not None:
            _encode_sample(name, sample, content.samples[name])
    encoded: bytes = content.SerializeToString(deterministic=True)
    return encoded


def _encode_sample(name: str, sample: Mapping[str, Any], target: Any) -> None:
    tag, uuid = sample.get("data_tag"), sample.get("data_uuid")
    try:
        target.data_tag = NO_TAG if tag is None else tag
        if uuid is not None:
            target.data_uuid = uuid
        _encode_data(sample["data"], target.data)
    except (TypeError, ValueError) as error:
        # Of their subclasses some take other arguments, such as UnicodeEncodeError.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"sample {name!r}: {error}") from error


def _encode_data(data: Any, target: Any) -> None:
    if isinstance(data, str):
        target.text_data.data = data
    elif _is_image(data):
        target.image_data.data = _encode_png(data)
    elif _is_file(data):
        _encode_file(data, target.file_data)
    else:
        tensor = encode_tensor(data)
        if tensor is None:
            raise TypeError(
                f"{_kind(data)} is no tensor, PIL image, str or file; "
                "give bytes as a file or as an array"
            )
        target.tensor_data.data = tensor.data
        target.tensor_data.dtype = tensor.dtype
        target.tensor_data.shape.extend(tensor.shape)


def _is_image(data: Any) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(data, module.Image)


def _encode_png(image: Any) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, format="PNG", compress_level=PNG_LEVEL)
    except (OSError, SystemError) as error:
        raise ValueError(
            f"picture of mode {image.mode} and size {image.size} cannot be a PNG, "
            f"convert it first: {error}"
        ) from error
    return file.getvalue()


def _is_file(data: Any) -> bool:
    """Accept a mapping or any object with the two members a file must have."""
    if isinstance(data, Mapping):
        return "content" in data and "filename" in data
    return hasattr(data, "content") and hasattr(data, "filename")


def _encode_file(data: Any, target: Any) -> None:
    fields = data if isinstance(data, Mapping) else _members(data)
    content = fields["content"]
    if isinstance(content, str):
        content = content.encode("utf-8")
    # memoryview and not bytes(): that would turn a number into so many zeros.
    target.content = bytes(memoryview(content))
    target.filename = fields["filename"]
    target.mime_type = fields.get("mime_type") or DEFAULT_MIME_TYPE


def _members(file: Any) -> Dict[str, Any]:
    mime_type = getattr(file, "mime_type", None)
    return {"content": file.content, "filename": file.filename, "mime_type": mime_type}


def decode_samples(data: bytes, limits: DecodeLimits, tensors: str) -> Dict[str, Any]:
    """Decode StreamSampleContent into ``{name: {"data", "data_tag", "data_uuid"}}``.

    Tensors become arrays (``tensors``: see Msg.from_bytes), pictures PIL images
    that are already loaded, texts str, files FilePayload. A sample without data
    has None. Raises DecodeError.
    """
    check_field_count(memoryview(data), _PATH_TO_PAYLOAD, limits.samples * _FIELDS_PER_SAMPLE)
    content = _messages_schema.parse(_messages_schema.load().StreamSampleContent, data)
    if len(content.samples) > limits.samples:
        raise DecodeError(
            f"stream_sample has {len(content.samples)} samples; "
            f"DecodeLimits.samples is {limits.samples}"
        )
    budget = Budget(limits.decoded_bytes)
    return {
        name: _decode_sample(name, sample, limits, budget, tensors)
        for name, sample in content.samples.items()
    }


def _decode_sample(
    name: str, sample: Any, limits: DecodeLimits, budget: Budget, tensors: str
) -> Dict[str, Any]:
    try:
        data = _decode_data(sample.data, limits, budget, tensors)
    except DecodeError as error:
        raise DecodeError(f"sample {name[:80]!r}: {error}") from error
    uuid = sample.data_uuid if sample.HasField("data_uuid") else None
    return {"data": data, "data_tag": sample.data_tag, "data_uuid": uuid}


def _decode_data(data: Any, limits: DecodeLimits, budget: Budget, tensors: str) -> Any:
    kind = data.WhichOneof("data_payload")
    if kind == "tensor_data":
        tensor = data.tensor_data
        return decode_tensor(tensor.data, tensor.dtype, tensor.shape, budget, tensors)
    if kind == "image_data":
        return _decode_image(data.image_data.data, limits, budget)
    if kind == "text_data":
        return data.text_data.data
    if kind == "file_data":
        file = data.file_data
        return FilePayload(content=file.content, filename=file.filename, mime_type=file.mime_type)
    return None


def _decode_image(data: bytes, limits: DecodeLimits, budget: Budget) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DecodeError(f"this picture needs the package pillow: {error}") from error
    try:
        image = Image.open(io.BytesIO(data), formats=list(limits.image_formats))
        width, height = image.size
        budget.take(width * height * _bytes_per_pixel(image.mode), "picture")
        image.load()
    except DecodeError:
        raise
    # Pillow's parsers meet hostile bytes here, and raise whatever their code
    # runs into: OSError, SyntaxError, struct.error, its own bomb error, others.
    except Exception as error:
        formats = "/".join(limits.image_formats)
        raise DecodeError(f"picture is no {formats} that decodes: {error}") from error
    return image


def _bytes_per_pixel(mode: str) -> int:
    """What Pillow spends; it pads three channels to four bytes."""
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def _kind(value: Any) -> str:
    return type(value).__name__

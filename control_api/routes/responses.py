"""Answers in JSON, with decimals as numbers."""

from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.enums import MediaType
from litestar.types import Serializer

T = TypeVar("T")

_encoder = msgspec.json.Encoder(decimal_format="number")


class JsonResponse(Response[T]):
    """Money is `10000.00`, not `"10000.00"`."""

    def render(self, content: Any, media_type: MediaType | str, enc_hook: Serializer | None = None) -> bytes:
        """Bytes and text as they are, everything else as JSON."""
        if isinstance(content, bytes | str) or content is None:
            return super().render(content, media_type, enc_hook or str)
        return _encoder.encode(content)

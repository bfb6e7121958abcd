"""Content blocks of messages as they are kept: without the bytes of pictures and without signatures."""

from __future__ import annotations

from typing import Any, Final

from tachograph.lines import words

# Longer texts in these places are base64 of a picture or a document, or the provider's own seal on its thinking.
_BYTES_MIN: Final = 512
_DEPTH_MAX: Final = 4  # a tool result holds blocks, which hold a source
_SEALS: Final = frozenset(("signature", "thinkingSignature", "encrypted_content", "thoughtSignature", "textSignature"))
_PICTURES: Final = frozenset(
    ("image", "document", "file", "base64", "image_url", "input_image", "input_file", "redacted_thinking")
)
_BYTES: Final = frozenset(("data", "base64", "image_url", "url", "file_data"))


def plain(value: Any, depth: int = 0) -> Any:
    """The value without what no reader could read; the same object where there is nothing to leave out."""
    if depth >= _DEPTH_MAX:
        return value
    if isinstance(value, list):
        kept = [plain(item, depth + 1) for item in value]
        return kept if any(new is not old for new, old in zip(kept, value, strict=True)) else value
    return _block(value, depth) if isinstance(value, dict) else value


def _block(block: dict[str, Any], depth: int) -> dict[str, Any]:
    kind = words(block.get("type"))
    changed: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, str):
            if key in _SEALS:
                changed[key] = None
            elif key in _BYTES and len(value) > _BYTES_MIN and kind in _PICTURES and _is_packed(key, value):
                changed[key] = f"[{len(value)} characters]"
        elif isinstance(value, (dict, list)) and key not in ("input", "arguments"):
            new = plain(value, depth + 1)
            if new is not value:
                changed[key] = new
    if not changed:
        return block
    return {key: kept for key, value in block.items() if (kept := changed.get(key, value)) is not None}


def _is_packed(key: str, value: str) -> bool:
    """Whether a text is the thing itself and no address of it."""
    return value.startswith("data:") if key in ("image_url", "url") else True


_TEXTS: Final = frozenset(("text", "input_text"))


def asked(content: Any) -> Any:
    """What a user asked: the text alone where there is nothing else, as other sources tell it, else the blocks."""
    if isinstance(content, list) and all(isinstance(b, dict) and words(b.get("type")) in _TEXTS for b in content):
        texts = [b.get("text") for b in content]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(texts)
    return plain(content)

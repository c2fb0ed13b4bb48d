"""The op families: one module each, every op's gradient rule under its forward rule."""

from glassgrad.ops import creation, embedding, index, layout, sort

__all__ = ["creation", "embedding", "index", "layout", "sort"]

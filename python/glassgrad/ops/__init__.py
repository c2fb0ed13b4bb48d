"""The op families: one module each, every op's gradient rule under its forward rule."""

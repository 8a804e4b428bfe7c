"""Triton's interpreter as the tests need it."""

from dataclasses import replace
from typing import Any


def configure() -> None:
    """Twice as fast, without its checks for overflow; in Triton 3.6, without a conversion that numpy deprecates."""
    from triton.runtime import interpreter

    builder: Any = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
    patch: Any = interpreter._patch_lang_tensor  # private; Triton 3.6 to 3.8 have it

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        # Of an array of one element, 3.6 takes int().
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched

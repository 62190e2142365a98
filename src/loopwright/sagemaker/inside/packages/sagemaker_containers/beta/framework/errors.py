"""What goes wrong with a request."""

# mypy: disable-error-code="import-not-found"

from sagemaker_inference.errors import UnsupportedFormatError

__all__ = ["UnsupportedFormatError"]

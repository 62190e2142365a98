"""Arrays to bodies and back."""

# mypy: disable-error-code="import-not-found"

from sagemaker_inference.decoder import decode
from sagemaker_inference.encoder import encode

__all__ = ["decode", "encode"]

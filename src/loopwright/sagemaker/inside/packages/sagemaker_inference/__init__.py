"""What scripts import of SageMaker's inference toolkit: media types, and reading and writing them."""

"""What scripts import of SageMaker's first container toolkit."""

"""What scripts import of SageMaker's XGBoost container: checkpoints, and reading channels."""

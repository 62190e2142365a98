"""The SageMaker-compatible API: requests of AWS's clients come in, the loop's own services answer."""

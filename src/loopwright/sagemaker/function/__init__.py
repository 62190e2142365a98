"""Functions as AWS Lambda has them: a zip of Python code goes in, and what its handler answers comes out."""

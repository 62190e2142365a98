"""Pipelines: a definition in JSON comes in, and its steps are carried out as clients would order them."""

"""Clarify: an analysis of a data set and a model in, figures of bias, attributions and a report out."""

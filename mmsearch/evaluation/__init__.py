"""Evaluation of rankings: captioned sets, relevance judgments and metrics."""

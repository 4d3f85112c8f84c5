"""Comparison of training recipes: rows of settings, each trained with several seeds."""

"""Judging an implementation: the plan, the worker processes, the results and their diagnosis."""

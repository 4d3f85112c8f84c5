"""Evaluation of trained models: bounds, importance sampling, diagnostics, sampling, images."""

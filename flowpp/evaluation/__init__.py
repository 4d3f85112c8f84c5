"""Evaluation of trained models: bounds, diagnostics, fingerprints, sampling and images."""

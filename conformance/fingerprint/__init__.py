"""Fingerprints of a trained model, recomputed by the reference."""

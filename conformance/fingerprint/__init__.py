"""Fingerprints of a trained model, compared with the reference."""

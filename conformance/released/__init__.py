"""Comparison with vectors recorded from the authors' released code.

`python -m conformance.released VECTORS.npz [...]` builds the model that each file describes, in
flowpp and in the reference, and compares every quantity in the file. A file contains the weights
`w/<variable>`, images `x`, noise `eps` or `u`, a latent `sample_z`, the released code's results in
each precision under `f32/` and `f64/`, and JSON facts in `meta`.
"""

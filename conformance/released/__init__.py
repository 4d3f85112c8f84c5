"""Proof against the authors' released code: recorded vectors in, a table of differences out.

`python -m conformance.released VECTORS.npz [...]` builds the model that a file describes, in
flowpp and in the reference, and compares every quantity the file holds. The files' format is:
`w/<variable>` the weights, `x` images, `eps` or `u` the noise, `sample_z` a latent, and under
`f32/` and `f64/` what the released code made of them in either precision; `meta` is JSON.
"""

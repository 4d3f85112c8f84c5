"""Compute kernels: the logistic mixture's logit-CDF, its derivatives and its inverse."""

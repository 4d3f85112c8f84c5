"""Numerical tools of the laws: comparison in ulps, Jacobians, quadrature, specifications."""

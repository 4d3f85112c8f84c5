"""Adapters of flowpp and of flow libraries from PyPI.

    python -m conformance --adapter conformance.adapters.zuko:ZukoAdapter

    flowpp:FlowppAdapter                             flowpp (the default)
    torch_distributions:TorchDistributionsAdapter    torch.distributions
    zuko:ZukoAdapter                                 zuko
    nflows:NflowsAdapter                             nflows
    normflows:NormflowsAdapter                       normflows
    pyro:PyroAdapter                                 pyro-ppl
    flowjax:FlowjaxAdapter                           flowjax (JAX)
    distrax:DistraxAdapter                           distrax (JAX)
    tfp:TfpAdapter                                   TensorFlow Probability (JAX)
    freia:FreiaAdapter                               FrEIA

In Python, an adapter builds the library's object for a specification:

    from conformance.adapters.zuko import ZukoAdapter
    from reference.bijectors import Affine

    affine = ZukoAdapter("float32").build(Affine(log_scale=np.zeros(1), shift=np.ones(1)))
    y, log_det = affine.forward(np.zeros((2, 1, 4, 4), "float32"))

An adapter only translates conventions (axes, direction, parametrization) and never corrects
numbers. A map that a library lacks is reported as not supported, with the reason, and so is a flow
that contains it. The network of a coupling is the specification's own, in float64, so that only
the library's part of the coupling is judged.

Each module needs its library; `tox -e libraries` installs all of them. To write an adapter, see
`conformance.adapter`; for a library of bijectors, derive from `spec_view.LibraryAdapter`.
"""

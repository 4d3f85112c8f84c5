"""Ready adapters for flow libraries from PyPI, for the maps that they have.

    python -m conformance --adapter conformance.adapters.zuko:ZukoAdapter

    torch_distributions:TorchDistributionsAdapter    torch.distributions
    zuko:ZukoAdapter                                 zuko
    nflows:NflowsAdapter                             nflows
    normflows:NormflowsAdapter                       normflows
    pyro:PyroAdapter                                 pyro-ppl
    flowjax:FlowjaxAdapter                           flowjax (JAX)

An adapter translates conventions (axes, direction, parametrization) and nothing else: it corrects
no number. What the libraries do not have is reported as not supported, with the reason; a flow
that has such a part in it is left out whole. A coupling's network is the specification's own, in
float64, so that only the library's part of the coupling is judged.

Each module needs its library installed: `tox -e libraries` brings them all.
"""

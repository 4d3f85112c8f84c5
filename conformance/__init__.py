"""The law suite that proves an implementation of the bijectors against `reference`.

    python -m conformance                                     # flowpp
    python -m conformance --adapter my_package.adapter:Adapter --html report.html
    pytest --pyargs conformance --adapter my_package.adapter:Adapter

An implementation is reached through an adapter (`conformance.adapter`) with one method,
`build(spec)`, where `spec` is the reference object itself. Cases (`conformance.cases`) say what is
built and on which inputs; laws (`conformance.laws`) say what must hold. A cell is a case under a
law at a dtype. A failing cell reports where its error is worst, the probable cause
(`conformance.judging.diagnosis`), and commands that reproduce it.

To add a bijector, add one file of the same name to each tree, and one case line.
"""

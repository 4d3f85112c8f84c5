"""The law suite that proves an implementation of the bijectors against `reference`.

    python -m conformance                                     # flowpp
    python -m conformance --adapter my_package.door:Adapter --html report.html
    pytest --pyargs conformance --adapter my_package.door:Adapter

An implementation enters by an adapter (`conformance.adapter`): one method, `build(spec)`, where
`spec` is the reference object itself. Cases (`conformance.cases`) say what is built and on which
inputs it is tried; laws (`conformance.laws`) say what has to hold. A cell is a case under a law at
a dtype; one that fails says where its error is worst, what the probable cause is
(`conformance.judging.diagnosis.cause`), and what to paste to see it again.

To add a bijector: one file of the same name in each tree, and one case line.
"""

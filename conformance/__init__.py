"""The law suite that proves an implementation of the bijectors against `reference`.

    python -m conformance                                     # flowpp
    python -m conformance --adapter my_package.door:Adapter   # anything else

An implementation enters by an adapter (`conformance.adapter`): one method, `build(spec)`, where
`spec` is the reference object itself. Cases (`conformance.cases`) say what is built and on which
inputs it is tried; laws (`conformance.laws`) say what has to hold.

To add a bijector: one file of the same name in each tree, and one case line.
"""

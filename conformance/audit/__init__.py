"""The numerical audit: where a logistic mixture's arithmetic holds, breaks, and what it costs.

`python -m conformance.audit --out DIR` compares implementations with fifty-digit arithmetic and
writes one page (`DIR/index.html`) and all its numbers (`DIR/audit.json`).

    truth.py      the mixture, its gradients and their conditioning in mpmath
    grids.py      where it is looked at
    subjects.py   who is looked at: implementations, through their adapters
    specimens.py  published formulas that fail, for contrast
    accuracy.py  clamp.py  inversion.py  flowpp_run.py  measure.py    what is measured
    verdicts.py  plots.py  page.py                                    what is said about it
"""

"""Numerical audit of the logistic mixture: accuracy, clamps, inversion, and their cost.

`python -m conformance.audit --out DIR` compares implementations with fifty-digit arithmetic and
writes one page (`DIR/index.html`) and all its numbers (`DIR/audit.json`).

    truth.py           exact values, gradients and conditioning, in mpmath
    grids.py           test points; budget.py: how many
    subjects/          implementations under audit, and flawed formulas that it must catch
    measures/          accuracy, clamps, inversion, round trips and bits/dim of a model
    trained_model.py   trained models of flowpp
    verdicts.py        bounds, and the statements derived from them
    report/            HTML page, figures, tables and terminal output
"""

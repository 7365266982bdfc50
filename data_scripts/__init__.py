"""Steps 1 to 3 of the pipeline: raw text is cleaned, cut into words and turned into ids.

`prepare` runs all of it; each step is a function for `datasets.map` in a file of its own.
"""

"""What every room stands on: settings, errors, files, the terminal. Nothing here changes a result.

So nothing here counts in the fingerprint of a stage's code, see :mod:`pipeline.run.fingerprint`.
"""

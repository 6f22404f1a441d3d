"""Settings, errors, files and the terminal: code that every package needs.

Nothing here can change a result, so it is no part of the fingerprint of a stage's code, see
:mod:`pipeline.run.fingerprint`.
"""

"""How stages are run: the table of stages, the executor, folders, fingerprints."""

"""Networks as Lightning tasks, without access to files of a run."""

"""One file a stage: read what the stage before left, do the work, write the folder."""

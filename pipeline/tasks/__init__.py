"""Lightning modules that train networks or predict with them; they know no files of a run."""

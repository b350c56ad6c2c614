"""Several runs and their table: drawing one image at test time, and sweeps."""

"""Speed on a GPU, as a share of the limits of the GPU."""

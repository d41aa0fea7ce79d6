"""How fast it is on a GPU, as a share of what the GPU can do."""

"""Files in, segments and vector indexes out."""

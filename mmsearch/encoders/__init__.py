"""Pictures and words -> unit vectors of one space."""

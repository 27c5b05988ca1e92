"""A synthetic archive: one moving atmosphere, sampled by each source and written in that source's own file format."""

"""A synthetic archive: one moving atmosphere, sampled by each source and written in that source's own file
format.

From the large to the small: `climate` and `flow` (season, basic flow, waves, `cyclone`; balanced, pure
functions of time), `terrain`, `lattice` and `ground` (where the points are and what mountains do), `noise`
and `rain` (what moves, grows and cannot be foreseen), `world` (hour to hour), `surface` (fields of an
analysis), `driver` (what a global model knows of it), `observe` (what radars see); `write_*` are the formats,
`faults` what goes wrong in them, `contents`, `hours`, `months` and `archive` the files and the work.
"""

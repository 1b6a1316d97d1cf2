"""A page on which to play with momentum, in two rooms: `landscape` and `training`.

`fastmom.playground.server.serve` shows it, on this machine only. Needs Bokeh, but for
`words`, `recording`, `runs` and `recipe`.
"""

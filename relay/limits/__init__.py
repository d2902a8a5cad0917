"""Rate limits: who may call how much, counted in memory that the workers of a node share.

`window` counts, `table` shares the counts among processes, `shares` among nodes, and `limiter`
decides about calls. docs/limits.md says what holds, and how exactly.
"""

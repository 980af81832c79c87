"""Sweeps: many points of one scenario, replicated on all cores or a Dask cluster, kept as Parquet.

A table of points (`plan`), a run (`run`, `engines`, `store`), a summary (`summary`, `pictures`): data between.
Nothing is imported here: a worker needs only `unit`.
"""

"""Everything that runs: a thread for each source, threads for each store, a queue between.
`pipeline.Pipeline` builds, starts, reloads and stops the others. A `source_runner.SourceRunner` guards the
root of its source, scans it when `core.schedule` says so, and performs the deletions that `core.deletions`
allows. A `store_runner.StoreRunner` holds one store, its engine and its `workers.Workers`, which take files
from a `queue.WorkQueue` and report to a `health.Health` how the store takes them. `source_status` holds what
`status` shows of a source, `reconcile` decides whether the store may already hold what a source sends, and
`context` is shared by all parts.
"""

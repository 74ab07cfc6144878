"""Everything that runs: a thread for each source, threads for each store, a queue between.
`pipeline.Pipeline` builds, starts, reloads and stops the others. A `source_runner.SourceRunner` guards
the root of its source, scans it and decides on deletions. A `store_runner.StoreRunner` holds one store,
its engine and its `workers.Workers`, which take files from a `queue.WorkQueue`. `source_status` is what
is known of a source, `reconcile` asks whether the store holds its objects already, and `context` is what
every part is given.
"""

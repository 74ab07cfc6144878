"""The whole engine in one thread; time, chance, disk and store are ours, and only SQLite is real.

================  =====================================================================================
``tree``          directories and files in memory, with the clocks, inodes and errors that we want
``syscalls``      the part of ``os`` by which syncd reads, on such a tree
``weather``       a store whose requests are lost, come twice, or take effect late
``process``       syncd itself: its real pipeline, stepped by us instead of by threads; it can die
``world``         a folder, a store and a process, and the time that passes for them
``moves``         what people and machines do to them
``checker``       what has to be true at every moment, and what when all is quiet
``play``          a seed becomes a script of moves; a script is played, and shortened when it fails
================  =====================================================================================
"""

"""How recorded work runs: programs, threads, memory."""

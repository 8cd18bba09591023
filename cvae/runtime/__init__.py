"""Running of recorded work: programs, threads, memory."""

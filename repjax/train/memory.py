"""How the host's memory is handed out."""

import ctypes


def keep_freed_memory() -> None:
  """Lets the C library keep the memory that a step frees for the next step, on Linux.

  XLA's CPU backend asks for its temporaries anew at every step. By default glibc returns blocks of
  that size to the kernel, which then has to clear every page again: up to half of a step's time
  (benchmarks/NOTES.md). Where there is no ``mallopt``, nothing happens.

  To be called before JAX is first asked for its devices: XLA's threads, which start then, otherwise
  have arenas of their own already, some of whose blocks still go back.
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return
  trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # names of malloc.h
  mallopt(arena_max, 1)  # the other arenas cannot grow past 64 MiB
  mallopt(mmap_max, 0)
  mallopt(trim_threshold, 2**31 - 1)
  mallopt(top_pad, 2**26)

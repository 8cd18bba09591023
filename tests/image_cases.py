"""Types of images, and the memory that working on them takes."""

import tracemalloc

DTYPES = ["bool", "uint8", "int8", "int32", "int64", "uint16", "float16", "float32", "float64"]
DTYPES += ["longdouble", ">f4", ">f8", ">i2", "<f4"]


def peak_memory(function, *arguments):
    """Return the peak memory, in bytes, that a call allocates."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

"""Visit every object of an HDF5 file; run as a script in a process that may crash."""

import sys

import h5py

MEMORY_BYTES = 4 << 30
MAX_INFLATION = 1100  # deflate cannot shrink anything by more than this
SMALL_BYTES = 1 << 20
READ_BYTES = 64 << 20  # files up to this size are read whole, larger ones at both ends


def limit_memory() -> None:
    """Let a damaged size field fail here rather than take the machine's memory."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def visit(group: h5py.Group, whole: bool, depth: int = 0) -> None:
    """Touch all attributes, links and the data of a group."""
    if depth > 32:
        raise ValueError(f"{group.name} is nested more than 32 deep")
    attributes(group)
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link to elsewhere")
        item = group[name]
        if isinstance(item, h5py.Group):
            visit(item, whole, depth + 1)
        elif isinstance(item, h5py.Dataset):
            attributes(item)
            read(item, whole)


def attributes(item) -> None:
    for _ in item.attrs.items():
        pass


def read(item: h5py.Dataset, whole: bool) -> None:
    """Compare the declared size with what is stored, then read it."""
    stored, declared = item.id.get_storage_size(), item.size * item.dtype.itemsize
    if declared > max(SMALL_BYTES, MAX_INFLATION * stored):
        raise ValueError(f"{item.name} claims {declared} bytes but stores {stored}")
    if item.size == 0:
        return
    if whole or item.ndim == 0:
        item[()]
    else:
        item[0]
        item[len(item) - 1]


def main(path: str) -> None:
    """Visit the file at `path`."""
    limit_memory()
    with open(path, "rb") as raw:
        whole = raw.seek(0, 2) <= READ_BYTES
    with h5py.File(path, "r") as file:
        visit(file, whole)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # the parent shows the last line
        sys.exit(f"{type(error).__name__}: {error}")

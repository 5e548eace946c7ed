"""`memory://`: carries messages between the threads of one process.

`memory://name` names a store of its own; channels with the same name and namespace share it. Nothing leaves
the process, and messages end with it. Start with `store.py`, which holds all topics under one lock.
`topic.py` and `parts.py` have the data of one topic, and `listener.py` is the reading side.
"""

import re
import threading
from weakref import WeakValueDictionary

from bridge.backends.memory.backend import MemoryBackend
from bridge.backends.memory.store import Store
from bridge.model.state import Retention

_stores: WeakValueDictionary[tuple[str, str], Store] = WeakValueDictionary()
_stores_lock = threading.Lock()  # Guards _stores.


def open_backend(url: str, *, namespace: str, timeout: float, retention: Retention) -> MemoryBackend:
    """Return a backend on the store that `url` and `namespace` name."""
    with _stores_lock:
        key = (re.split("[/?#]", url.partition("://")[2])[0], namespace)
        store = _stores.get(key)
        if store is None:
            store = _stores[key] = Store()
        return MemoryBackend(store, retention)

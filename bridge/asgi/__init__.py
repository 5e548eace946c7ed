"""ASGI frameworks serve the streams: FastAPI, Starlette, Litestar, Quart and any other ASGI application.

`bridge.py` is what an application uses, `application.py` wraps the application, `response.py` is the response
of a route. How a response is sent is not here but in `bridge/streams/asgi.py`. Starlette is optional.
"""

from bridge.asgi.bridge import Bridge as Bridge
from bridge.asgi.response import RESPONSES as RESPONSES
from bridge.asgi.response import StreamResponse as StreamResponse

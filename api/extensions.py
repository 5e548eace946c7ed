"""The Flask extensions. They are created here, so that views can import them before an application exists."""

from bridge.flask import Bridge

bridge = Bridge()

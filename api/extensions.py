"""The Flask extensions, made here so that views can use them before there is an application."""

from bridge.flask import Bridge

bridge = Bridge()

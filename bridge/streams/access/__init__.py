"""Who may read a topic or cancel a task: by a token, or by a function of the application.

`authorization.py` decides about a request; open it first. `credentials.py` finds the token in a request,
`tokens.py` makes and reads tokens, `signatures.py` verifies them, `keys.py` reads the keys of the settings,
and `jwks.py` fetches those of another issuer. `revocations.py` knows which tokens no longer count.
`grant.py` is what allows an open stream to go on. How streams end is in `bridge/streams/grants.py`.
"""

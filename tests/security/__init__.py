"""One test or more for each attack. Each fails if its defence is removed.

Tests that need what another folder has stay there:

| attack                             | test |
|------------------------------------|------|
| forged, expired or swapped tokens  | security/test_tokens.py |
| `alg: none`, key confusion         | security/test_tokens.py |
| another audience                   | security/test_tokens.py |
| a tag of another tenant            | security/test_tokens.py, security/test_tags.py |
| used after revocation              | security/test_revocation.py |
| the cursor of another topic        | security/test_cursors.py |
| other sites (CSRF), DNS rebinding  | security/test_other_sites.py |
| line breaks in events (SSE)        | security/test_event_injection.py |
| events that only a stream creates  | security/test_event_injection.py |
| prototype pollution in the client  | browser/units/pollution.test.js |
| markup in what the monitor shows   | browser/test_monitor.py |
| request smuggling                  | security/test_smuggling.py |
| pipelined requests                 | streams/takeover/test_wsgi.py, streams/takeover/test_asgi.py |
| hostile connections, slow readers  | faults/test_bad_viewers.py, faults/test_memory.py |
| streams without number             | streams/test_limits.py, test_access.py |
| tasks that flood                   | tasks/test_sender_limits.py, tasks/test_publish_queue.py |
| secrets in logs, errors and reprs  | security/test_secrets.py, security/test_tokens.py |
| passwords in errors of backends    | backends/test_registry.py, support/test_urls.py |
| files outside the client's folder  | streams/test_client_files.py |
"""

"""The servers compared: each is one small program that streams `/events/<topic>` and answers `/plain`."""

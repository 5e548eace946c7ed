"""What is published in the tests of conformance."""

# requests hands on a body that is not chunked 128 bytes at a time.
PADDING = b"x" * 300

PAYLOADS: list[bytes | str] = [
    *(b"one", b"", b"\n", b"\r", b"\r\n", b"\n\n\n", b"\n\r"),
    *(b"a\nb", b"a\rb", b"a\r\nb", b"a\r\r\nb\n\rc", b"ends\n", b"ends\r\n\r\n"),
    *(b" one space", b"  two", b"\ta tab", b"trailing ", b" "),
    *(b": no comment", b"data: no field", b"id: 7", b"id", b"event: no type\nretry: 1\n\ndata: x"),
    *("\ufeffBOM", "é 漢字 😀 \u0301", "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei", "nul \0"),
    b"x" * 100_000,
    b"line\n" * 20_000,
]

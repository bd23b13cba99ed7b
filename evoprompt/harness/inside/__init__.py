"""All that runs in sandboxed processes. Standard library only, with relative imports: nothing else is shown to them.

zygote lockdown seccomp       start, lock in, and fork processes
child                         serves the host from such a process
codec encoding kinds names    values as bytes and back; digest: of those too large to send
judge guard | solution        the two sides of a conversation: the tests, and the solution that they call
peer messages contents proxies    what both sides do alike
"""

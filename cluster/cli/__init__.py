"""The raydub command: arguments, display, exit statuses. Never logic that Python callers need.

Every start imports all commands, so a command imports the code that does its work when it runs, not before.
"""

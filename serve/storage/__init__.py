"""The media of dubs, in a folder or in a bucket. Never a database statement."""

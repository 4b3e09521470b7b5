"""HLS streams of dubs that are being made. Never finished files."""

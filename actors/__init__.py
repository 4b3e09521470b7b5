"""What works on segments: data types, errors, engines, and the actor that hosts one engine."""

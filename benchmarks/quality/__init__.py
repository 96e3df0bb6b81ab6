"""What a method does to pictures, in numbers: see docs/quality.md for what each of them means."""

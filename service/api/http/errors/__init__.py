"""What went wrong, as problem documents and as OpenAI's errors."""

"""Images as OpenAI's interface has them: requests, answers, edits."""

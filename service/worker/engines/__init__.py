"""What a kind of model can do: from a request to finished pixels."""

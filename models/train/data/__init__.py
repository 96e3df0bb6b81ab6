"""The pictures that are learned from: fetched, named, put into scenes."""

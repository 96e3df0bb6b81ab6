"""Settings of the library's tests."""

import hypothesis

# Machines differ in speed: no time limit a case, and no more cases than find mistakes here.
hypothesis.settings.register_profile("library", deadline=None, max_examples=40)
hypothesis.settings.load_profile("library")

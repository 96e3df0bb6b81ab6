"""Jobs in the pipeline process: started, followed, watched, ended."""

"""A worker process of the local runner: Beam's own, with one thread for each library, ending with its launcher."""

from apache_beam.runners.worker import sdk_worker_main

from reactionnet_pipeline.isolated import end_with_parent, one_thread

if __name__ == "__main__":
    one_thread()
    end_with_parent()
    sdk_worker_main.main([])

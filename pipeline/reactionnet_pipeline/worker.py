"""A worker process of the local runner: Beam's own, with one thread for each library, ending with its launcher."""

import sys

from reactionnet_pipeline.isolated import end_with, one_thread

if __name__ == "__main__":
    one_thread()
    end_with(int(sys.argv[1]))  # the launcher; asking for the parent would be too late where that has just been killed
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])

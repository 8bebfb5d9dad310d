"""The stages of an answer, one file each, in the order of `serving.answering.pipeline.STAGES`."""

"""The driver: configuration, media, grouping, alignment, fitting, mixing, pools, pipeline, command line."""

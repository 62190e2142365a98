"""S3 out of the home folder: requests for buckets and objects come in, files and an index answer."""
